#include "gguf/metadata.h"

#include <gtest/gtest.h>

namespace yoke::gguf {
namespace {

Value single(Scalar scalar) { return {ValueType::kInt32, std::move(scalar)}; }

using Numbers = std::vector<std::uint64_t>;

class MetadataTest : public testing::Test {
 protected:
  MetadataTest() {
    metadata_.add("general.architecture", single(std::string("llama")));
    metadata_.add("eight", single(std::int64_t{8}));
    metadata_.add("minus", single(std::int64_t{-1}));
    metadata_.add("half", single(0.5));
    metadata_.add("yes", single(true));
    metadata_.add("two", Value{ValueType::kArray,
                               Array{ValueType::kUint32, 2, {std::uint64_t{4}, std::int64_t{0}}}});
    metadata_.add("flags", Value{ValueType::kArray, Array{ValueType::kBool, 2, {true, false}}});
    metadata_.add("cut",
                  Value{ValueType::kArray, Array{ValueType::kUint32, 9999, {std::uint64_t{4}}}});
    metadata_.add("mixed", Value{ValueType::kArray,
                                 Array{ValueType::kInt32, 2, {std::int64_t{4}, std::int64_t{-4}}}});
  }
  Metadata metadata_;
};

TEST_F(MetadataTest, GivesAValueOnlyAsWhatItIs) {
  EXPECT_EQ(metadata_.integer("eight"), 8);
  EXPECT_EQ(metadata_.number("eight"), 8.0);
  EXPECT_EQ(metadata_.integer("minus"), std::nullopt);
  EXPECT_EQ(metadata_.number("minus"), -1.0);
  EXPECT_EQ(metadata_.integer("half"), std::nullopt);
  EXPECT_EQ(metadata_.integer("yes"), std::nullopt);
  EXPECT_EQ(metadata_.boolean("yes"), true);
  EXPECT_EQ(metadata_.boolean("eight"), std::nullopt);
  EXPECT_EQ(metadata_.string("eight"), nullptr);
  EXPECT_EQ(metadata_.array("eight"), nullptr);
  EXPECT_EQ(metadata_.integer("two"), std::nullopt);
  EXPECT_EQ(metadata_.integer("none"), std::nullopt);
  EXPECT_EQ(metadata_.number("none"), std::nullopt);
  EXPECT_EQ(metadata_.find("none"), nullptr);
}

TEST_F(MetadataTest, GivesOneNumberPerLayer) {
  EXPECT_EQ(metadata_.per_layer("eight", 3), (Numbers{8, 8, 8}));
  EXPECT_EQ(metadata_.per_layer("two", 2), (Numbers{4, 0}));
  EXPECT_EQ(metadata_.per_layer("two", 1), (Numbers{4}));
  EXPECT_EQ(metadata_.per_layer("flags", 2), (Numbers{1, 0}));
  EXPECT_EQ(metadata_.per_layer("two", 3), std::nullopt);
  EXPECT_EQ(metadata_.per_layer("cut", 2), std::nullopt);
  EXPECT_EQ(metadata_.per_layer("mixed", 2), std::nullopt);
  EXPECT_EQ(metadata_.per_layer("minus", 2), std::nullopt);
  EXPECT_EQ(metadata_.per_layer("none", 2), std::nullopt);
  EXPECT_EQ(metadata_.per_layer("eight", std::uint64_t{1} << 40), std::nullopt);
}

TEST_F(MetadataTest, KeepsTheFirstOfAName) {
  EXPECT_FALSE(metadata_.add("eight", single(std::int64_t{9})));
  EXPECT_EQ(metadata_.integer("eight"), 8);
}

TEST_F(MetadataTest, NamesKeysByArchitecture) {
  EXPECT_EQ(metadata_.of_architecture("block_count"), "llama.block_count");
  EXPECT_EQ(Metadata().architecture(), "");
}

}  // namespace
}  // namespace yoke::gguf
