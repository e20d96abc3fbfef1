#include "rpc_pipeline/settings.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rpc_pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using namespace std::chrono_literals;

class SettingsTest : public ::testing::Test {
 protected:
  SettingsTest() { clear(); }
  ~SettingsTest() override { clear(); }

  static void clear() {
    for (const char* name : {"YOKE_RPC_CLIENT", "YOKE_RPC_WORKERS", "YOKE_RPC_TIMEOUT_MS",
                             "YOKE_RPC_CONNECT_TIMEOUT_MS", "YOKE_RPC_HASHES", "YOKE_RPC_MASKS"}) {
      ::unsetenv(name);
    }
  }
  static void set(const char* name, const char* value) { ::setenv(name, value, 1); }
};

TEST_F(SettingsTest, AnEmptyEnvironmentSwitchesNothingOn) {
  const Settings settings = settings_from_environment();
  EXPECT_FALSE(settings.enabled);
  EXPECT_EQ(settings.timeout, 120s);
  EXPECT_EQ(settings.connect_timeout, 10s);
  EXPECT_EQ(settings.hashes, "");
  EXPECT_FALSE(settings.whole_masks);
  EXPECT_THAT(settings.names, IsEmpty());
}

TEST_F(SettingsTest, ReadsWhatIsSet) {
  set("YOKE_RPC_CLIENT", "pipelined");
  set("YOKE_RPC_WORKERS", "127.0.0.1:50052=desk-2,[::1]:50053=desk-3");
  set("YOKE_RPC_TIMEOUT_MS", "1500");
  set("YOKE_RPC_CONNECT_TIMEOUT_MS", "250");
  set("YOKE_RPC_HASHES", "/var/lib/hashes");
  set("YOKE_RPC_MASKS", "whole");
  const Settings settings = settings_from_environment();
  EXPECT_TRUE(settings.enabled);
  EXPECT_EQ(settings.timeout, 1500ms);
  EXPECT_EQ(settings.connect_timeout, 250ms);
  EXPECT_EQ(settings.hashes, "/var/lib/hashes");
  EXPECT_TRUE(settings.whole_masks);
  EXPECT_EQ(settings.name_of("127.0.0.1:50052"), "desk-2");
  EXPECT_EQ(settings.name_of("[::1]:50053"), "desk-3");
  EXPECT_EQ(settings.name_of("127.0.0.1:50054"), "127.0.0.1:50054");
}

TEST_F(SettingsTest, OnlyTheOneWordSwitchesItOn) {
  for (const char* value : {"", "1", "stock", "Pipelined", "pipelined "}) {
    set("YOKE_RPC_CLIENT", value);
    EXPECT_FALSE(settings_from_environment().enabled) << '"' << value << '"';
  }
}

TEST_F(SettingsTest, ATimeoutThatIsNoneStaysAtItsDefault) {
  for (const char* value :
       {"", "0", "-5", "+5", " 5", "5 ", "5s", "1e3", "86400001", "99999999999999999999", "x"}) {
    set("YOKE_RPC_TIMEOUT_MS", value);
    EXPECT_EQ(settings_from_environment().timeout, 120s) << '"' << value << '"';
  }
  set("YOKE_RPC_TIMEOUT_MS", "86400000");
  EXPECT_EQ(settings_from_environment().timeout, 24h);
}

TEST(ParseNamesTest, PassesOverWhatIsNoName) {
  EXPECT_THAT(parse_names(""), IsEmpty());
  EXPECT_THAT(parse_names(",,="), IsEmpty());
  EXPECT_THAT(parse_names("a:1,b:2=,c:3=three,"), ElementsAre(Pair("c:3", "three")));
  EXPECT_THAT(parse_names("a:1=x=y"), ElementsAre(Pair("a:1", "x=y")));
}

TEST(ParseNamesTest, NamesFitIntoALogLine) {
  EXPECT_THAT(parse_names("a:1=one\ntwo\x7f"), ElementsAre(Pair("a:1", "one?two?")));
  EXPECT_EQ(parse_names("a:1=" + std::string(1000, 'x')).at("a:1").size(), 64U);
}

}  // namespace
}  // namespace rpc_pipeline
