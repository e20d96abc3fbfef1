#include "cli/sampling.h"

#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

std::string request(const Sampling& sampling) {
  boost::json::object json;
  sampling.add_to(json);
  return boost::json::serialize(json);
}

TEST(Sampling, SendsOnlyWhatWasSet) {
  Sampling sampling;
  EXPECT_EQ(request(sampling), "{}");
  ASSERT_TRUE(sampling.set("max-tokens", "20"));
  ASSERT_TRUE(sampling.set("seed", "7"));
  EXPECT_EQ(request(sampling), R"({"max_tokens":20,"seed":7})");
  ASSERT_TRUE(sampling.set("max_tokens", "default"));
  EXPECT_EQ(request(sampling), R"({"seed":7})");
}

TEST(Sampling, RefusesWhatIsNoSuchNumber) {
  Sampling sampling;
  for (const char* bad : {"", "hot", "-1", "1e9", "nan", "0.7x", "0,7"}) {
    EXPECT_FALSE(sampling.set("temperature", bad)) << bad;
  }
  EXPECT_FALSE(sampling.set("max_tokens", "0"));
  EXPECT_FALSE(sampling.set("seed", "99999999999999999999"));
  EXPECT_EQ(request(sampling), "{}");
  EXPECT_TRUE(sampling.set("temperature", "0.7"));
  EXPECT_EQ(sampling.temperature, 0.7);
}

TEST(Sampling, NamesTheSettingThatWasMeant) {
  Sampling sampling;
  const auto set = sampling.set("temprature", "1");
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().hint, "Did you mean temperature?");
}

}  // namespace
}  // namespace yoke::cli
