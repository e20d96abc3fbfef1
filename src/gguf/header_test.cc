#include "gguf/header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"

namespace yoke::gguf {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

Result<Header> read(const std::string& bytes, const Limits& limits = {}) {
  StringSource source(bytes);
  return read_header(source, limits);
}

TEST(ReadHeader, TakesAWholeModelOfBothVersions) {
  for (const std::uint32_t version : {2u, 3u}) {
    Writer writer = small_model();
    writer.version = version;
    const std::string file = writer.file();
    const auto header = read(file);
    ASSERT_TRUE(header) << header.error().text();
    EXPECT_EQ(header->version, version);
    EXPECT_EQ(header->name, "model.gguf");
    EXPECT_EQ(header->alignment, 32);
    EXPECT_EQ(header->header_bytes, writer.header().size());
    EXPECT_EQ(header->data_offset, file.size() - writer.data_bytes());
    EXPECT_EQ(header->file_bytes, file.size());
    EXPECT_FALSE(header->split);
    EXPECT_EQ(header->metadata.values().size(), 12);
    EXPECT_EQ(header->metadata.architecture(), "llama");
    ASSERT_EQ(header->tensors.size(), 2);
    const Tensor& embedding = header->tensors[0];
    EXPECT_EQ(embedding.name, "token_embd.weight");
    EXPECT_EQ(embedding.dims, (std::array<std::uint64_t, 4>{256, 3, 1, 1}));
    EXPECT_EQ(embedding.dim_count, 2);
    EXPECT_EQ(embedding.bytes, 3 * 144);
    EXPECT_EQ(embedding.elements(), 768);
    EXPECT_EQ(header->tensors[1].offset, 448);
    EXPECT_EQ(header->tensors[1].bytes, 1024);
  }
}

TEST(ReadHeader, ReadsEveryTypeOfValue) {
  Writer writer;
  writer.add<std::uint8_t>("u8", 255)
      .add<std::int8_t>("i8", -128)
      .add<std::uint16_t>("u16", 65535)
      .add<std::int16_t>("i16", -2)
      .add<std::uint32_t>("u32", 4294967295u)
      .add<std::int32_t>("i32", -3)
      .add<std::uint64_t>("u64", 18446744073709551615u)
      .add<std::int64_t>("i64", -4)
      .add<float>("f32", 0.5f)
      .add<double>("f64", 0.25)
      .add<bool>("yes", true)
      .add<bool>("no", false)
      .add("text", std::string_view("a\0b", 3));
  const auto header = read(writer.file());
  ASSERT_TRUE(header) << header.error().text();
  const Metadata& metadata = header->metadata;
  EXPECT_EQ(metadata.integer("u8"), 255);
  EXPECT_EQ(metadata.number("i8"), -128);
  EXPECT_EQ(metadata.integer("u16"), 65535);
  EXPECT_EQ(metadata.number("i16"), -2);
  EXPECT_EQ(metadata.integer("u32"), 4294967295u);
  EXPECT_EQ(metadata.number("i32"), -3);
  EXPECT_EQ(metadata.integer("u64"), 18446744073709551615u);
  EXPECT_EQ(metadata.number("i64"), -4);
  EXPECT_EQ(metadata.number("f32"), 0.5);
  EXPECT_EQ(metadata.number("f64"), 0.25);
  EXPECT_EQ(metadata.boolean("yes"), true);
  EXPECT_EQ(metadata.boolean("no"), false);
  ASSERT_NE(metadata.string("text"), nullptr);
  EXPECT_EQ(*metadata.string("text"), "a\0b"s);
}

TEST(ReadHeader, KeepsShortArraysAndTheFrontOfLongOnes) {
  Writer writer;
  writer.add("layers", std::vector<std::int32_t>(4096, 8))
      .add("scores", std::vector<float>(4097, 1.0f))
      .add("tokens", std::vector<std::string>(5000, std::string(1000, 'x')))
      .add("none", std::vector<std::uint8_t>{})
      .add<std::uint8_t>("last", 7);
  const auto header = read(writer.file());
  ASSERT_TRUE(header) << header.error().text();
  const Array* const layers = header->metadata.array("layers");
  ASSERT_NE(layers, nullptr);
  EXPECT_TRUE(layers->complete());
  EXPECT_EQ(layers->type, ValueType::kInt32);
  EXPECT_EQ(layers->front.back(), Scalar(std::int64_t{8}));
  const Array* const scores = header->metadata.array("scores");
  ASSERT_NE(scores, nullptr);
  EXPECT_EQ(scores->count, 4097);
  EXPECT_EQ(scores->front.size(), 8);
  const Array* const tokens = header->metadata.array("tokens");
  ASSERT_NE(tokens, nullptr);
  EXPECT_EQ(tokens->count, 5000);
  ASSERT_EQ(tokens->front.size(), 8);
  EXPECT_EQ(tokens->front[0], Scalar(std::string(256, 'x')));
  EXPECT_TRUE(header->metadata.array("none")->complete());
  EXPECT_EQ(header->metadata.integer("last"), 7);  // Behind what was left out.
}

TEST(ReadHeader, KeepsNoMoreNumbersThanAllowedInAll) {
  Writer writer;
  for (int i = 0; i < 4; ++i) writer.add(std::to_string(i), std::vector<std::uint8_t>(100, 1));
  Limits limits;
  limits.all_kept_numbers = 250;
  const auto header = read(writer.file(), limits);
  ASSERT_TRUE(header) << header.error().text();
  EXPECT_TRUE(header->metadata.array("1")->complete());
  EXPECT_EQ(header->metadata.array("2")->front.size(), limits.shown);
  EXPECT_EQ(header->metadata.array("3")->count, 100);
}

TEST(ReadHeader, HonoursTheAlignment) {
  Writer writer;
  writer.alignment = 128;
  writer.add<std::uint32_t>("general.alignment", 128)
      .tensor("a", {32}, 0, 128)
      .tensor("b", {32}, 0, 128);
  const auto header = read(writer.file());
  ASSERT_TRUE(header) << header.error().text();
  EXPECT_EQ(header->alignment, 128);
  EXPECT_EQ(header->data_offset % 128, 0);
  EXPECT_EQ(header->tensors[1].offset, 128);
}

TEST(ReadHeader, MeasuresTensorsOfUnknownTypeByTheirNeighbours) {
  Writer writer;
  writer.tensor("new", {7, 3}, 99, 64).tensor("old", {8}, 24, 32).tensor("last", {5}, 77, 96);
  const auto header = read(writer.file());
  ASSERT_TRUE(header) << header.error().text();
  EXPECT_EQ(header->tensors[0].bytes, 64);
  EXPECT_EQ(header->tensors[1].bytes, 8);
  EXPECT_EQ(header->tensors[2].bytes, 96);
}

TEST(ReadHeader, NeedsNoSizeAndReadsNoWeights) {
  Writer writer = small_model();
  writer.tensor("large", {1 << 20}, 0, 4 << 20);
  StringSource source(writer.file(), false);
  const auto header = read_header(source);
  ASSERT_TRUE(header) << header.error().text();
  EXPECT_EQ(header->file_bytes, writer.file().size());
  EXPECT_LE(source.furthest, 65 * 1024);
}

TEST(ReadHeader, SkipsTheNumbersOfALongArray) {
  Writer writer;
  writer.add("long", std::vector<double>(1 << 20, 1.0)).add<std::uint8_t>("last", 7);
  StringSource source(writer.file());
  const auto header = read_header(source);
  ASSERT_TRUE(header) << header.error().text();
  EXPECT_EQ(header->metadata.integer("last"), 7);
  EXPECT_LE(source.largest_read, 128 * 1024);
}

TEST(ReadHeader, HandsOnWhatTheSourceSays) {
  Writer writer;
  writer.add("tokens", std::vector<std::string>(1000, std::string(1000, 'x')));
  StringSource source(writer.file());
  source.fails_from = 200'000;
  const auto header = read_header(source);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().code, kIo);
}

TEST(ReadHeader, NoticesEveryPlaceWhereAFileCanEnd) {
  const std::string file = small_model().file();
  for (std::size_t size = 1; size < file.size(); ++size) {
    const auto header = read(file.substr(0, size));
    ASSERT_FALSE(header) << size;
    ASSERT_EQ(header.error().code, kGgufTruncated) << size << ": " << header.error().message;
  }
}

TEST(ReadHeader, SurvivesAnyWrongByte) {
  const std::string file = small_model().file();
  for (std::size_t i = 0; i < small_model().header().size(); ++i) {
    for (const char wrong : {'\0', '\x7f', '\xff'}) {
      std::string bytes = file;
      bytes[i] = wrong;
      const auto header = read(bytes);
      if (header) {
        EXPECT_LE(header->tensors.size(), 2);
      } else {
        EXPECT_THAT(header.error().message, testing::StartsWith("model.gguf "));
      }
    }
  }
}

TEST(ReadHeader, TellsWhichPartOfASplitModelItIs) {
  Writer writer;
  writer.add<std::uint16_t>("split.no", 1)
      .add<std::uint16_t>("split.count", 3)
      .add<std::int32_t>("split.tensors.count", 40);
  const auto header = read(writer.file());
  ASSERT_TRUE(header) << header.error().text();
  ASSERT_TRUE(header->split);
  EXPECT_EQ(header->split->number, 1);
  EXPECT_EQ(header->split->count, 3);
  EXPECT_EQ(header->split->tensors, 40);
  EXPECT_FALSE(read(Writer().add<std::uint16_t>("split.count", 1).file())->split);
  EXPECT_FALSE(read(Writer().add<std::uint16_t>("split.count", 0).file())->split);
}

struct Bad {
  std::string file;
  ErrorCode code;
  std::string said;
};

void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.said; }

class BadHeader : public testing::TestWithParam<Bad> {};

TEST_P(BadHeader, IsAnErrorThatNamesTheDamage) {
  const auto header = read(GetParam().file);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().code, GetParam().code) << header.error().message;
  EXPECT_THAT(header.error().message, HasSubstr(GetParam().said));
  EXPECT_THAT(header.error().message, testing::StartsWith("model.gguf "));
  EXPECT_NE(header.error().hint, "");
}

// An array that says to have so many elements and has none.
std::string endless_array(std::uint32_t type, std::uint64_t count) {
  return Writer().add_raw("k", 9, raw(type) + raw(count)).file();
}

Writer claims(std::uint64_t tensors, std::uint64_t values) {
  Writer writer;
  writer.claimed_tensors = tensors;
  writer.claimed_values = values;
  return writer;
}

std::string with_tensor(const std::vector<std::uint64_t>& dims, std::uint32_t type) {
  return Writer().tensor("w", dims, type, 4096).file();
}

constexpr std::uint64_t kMax = ~std::uint64_t{0};

INSTANTIATE_TEST_SUITE_P(
    Counts, BadHeader,
    testing::Values(Bad{claims(kMax, 0).file(), kGgufUnsupported, "18446744073709551615 tensors"},
                    Bad{claims(0, kMax).file(), kGgufUnsupported, "metadata values, more than"},
                    Bad{claims(5, 0).file(), kGgufTruncated, "ends within it"},
                    Bad{claims(0, 5).file(), kGgufTruncated, "ends within it"}));

INSTANTIATE_TEST_SUITE_P(
    Values, BadHeader,
    testing::Values(
        Bad{Writer().add("", "x").file(), kGgufInvalid, "without a name"},
        Bad{Writer().add("k", "x").add("k", "y").file(), kGgufInvalid, "are named 'k'"},
        Bad{Writer().add(std::string(2000, 'k'), "x").file(), kGgufInvalid,
            "a metadata key of 2000 bytes where 1024 at most"},
        Bad{Writer().add_raw("k", 13, "").file(), kGgufInvalid, "a value of type 13"},
        Bad{Writer().add_raw("k", 8, raw(kMax)).file(), kGgufInvalid, "a text of 1844674"},
        Bad{Writer().add_raw("k", 8, raw<std::uint64_t>(1 << 20)).file(), kGgufTruncated, "ends"},
        Bad{endless_array(9, 1), kGgufUnsupported, "an array of arrays"},
        Bad{endless_array(77, 1), kGgufInvalid, "an array of type 77"},
        Bad{endless_array(10, kMax), kGgufInvalid, "an array of 18446744073709551615 elements"},
        Bad{endless_array(10, kMax / 8), kGgufTruncated, "ends within"},
        Bad{endless_array(0, kMax), kGgufTruncated, "ends within"},
        Bad{endless_array(8, kMax), kGgufTruncated, "ends within"},
        Bad{Writer().add<std::uint32_t>("general.alignment", 0).file(), kGgufInvalid, "power of"},
        Bad{Writer().add<std::uint32_t>("general.alignment", 48).file(), kGgufInvalid, "power of"},
        Bad{Writer().add("general.alignment", "32").file(), kGgufInvalid, "power of two"},
        Bad{Writer().add<std::uint16_t>("split.count", 2).file(), kGgufInvalid, "split.no"},
        Bad{Writer().add<std::uint16_t>("split.no", 2).add<std::uint16_t>("split.count", 2).file(),
            kGgufInvalid, "split.no"}));

INSTANTIATE_TEST_SUITE_P(
    Tensors, BadHeader,
    testing::Values(
        Bad{with_tensor({0}, 0), kGgufInvalid, "a dimension of 0"},
        Bad{with_tensor({kMax}, 0), kGgufInvalid, "a dimension of 1844674"},
        Bad{with_tensor({1u << 31, 1u << 31}, 0), kGgufInvalid, "a dimension of 2147483648"},
        Bad{with_tensor({1, 1, 1, 1, 1}, 0), kGgufInvalid, "has 5 dimensions, more than 4"},
        Bad{with_tensor({100, 2}, 12), kGgufInvalid, "rows of 100 elements, which Q4_K can't hold"},
        Bad{Writer().tensor(std::string(256, 'n'), {8}, 0, 32).file(), kGgufInvalid,
            "a tensor's name of 256 bytes"},
        Bad{Writer().tensor("w", {8}, 0, 32).tensor("w", {8}, 0, 32).file(), kGgufInvalid,
            "two tensors are named 'w'"},
        Bad{Writer().tensor_at("w", {8}, 0, 4).file(), kGgufInvalid, "lies at 4, where none"},
        Bad{Writer().tensor_at("w", {8}, 0, kMax - 31).file(), kGgufInvalid, "where none can be"},
        Bad{Writer().tensor_at("v", {32}, 0, 0).tensor_at("w", {8}, 0, 32).file(), kGgufInvalid,
            "'w' lies over the one before"},
        Bad{Writer().tensor_at("v", {32}, 0, 128).tensor_at("w", {8}, 0, 0).file(), kGgufInvalid,
            "'w' lies over the one before"},
        Bad{Writer().tensor_at("w", {1 << 20}, 0, 0).file(), kGgufTruncated,
            "is incomplete: it has 57 B of the 4.2 MB"},
        Bad{Writer().tensor("evil\x1b[31m\n", {0}, 0, 32).file(), kGgufInvalid,
            "tensor 'evil?[31m?'"}));

TEST(ReadHeader, SaysThatAForeignFileIsNoGguf) {
  const auto png = read("\x89PNG\r\n\x1a\n\0\0"s);
  ASSERT_FALSE(png);
  EXPECT_EQ(png.error().code, kGgufInvalid);
  EXPECT_EQ(png.error().message,
            "model.gguf is a PNG image; a little-endian GGUF file of version 2 or 3 was expected.");
  EXPECT_EQ(read("GG").error().code, kGgufTruncated);
  EXPECT_EQ(read("").error().code, kGgufInvalid);
}

TEST(ReadHeader, EndsAtItsLimits) {
  Limits limits;
  limits.header_bytes = 1000;
  Writer long_text;
  long_text.add("k", std::string(2000, 'x'));
  EXPECT_EQ(read(long_text.file(), limits).error().code, kGgufUnsupported);
  EXPECT_EQ(read(endless_array(8, 500) + std::string(4096, '\0'), limits).error().code,
            kGgufUnsupported);
  limits = {};
  limits.all_string_bytes = 100;
  const auto much =
      read(Writer().add("a", std::string(60, 'x')).add("b", std::string(60, 'x')).file(), limits);
  ASSERT_FALSE(much);
  EXPECT_THAT(much.error().message, HasSubstr("longer than 100 B together"));
}

// Claims 16 MiB of text at a time in a file that seems to have them.
class Endless final : public ByteSource {
 public:
  explicit Endless(std::string front) : front_(std::move(front)) {}
  Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override {
    bytes_read += into.size();
    for (std::size_t i = 0; i < into.size(); ++i) {
      into[i] = offset + i < front_.size() ? front_[offset + i] : '\0';
    }
    return into.size();
  }
  std::optional<std::uint64_t> size() const override { return std::uint64_t{1} << 40; }
  const std::string& name() const override { return name_; }
  std::uint64_t bytes_read = 0;

 private:
  std::string front_;
  std::string name_ = "endless.gguf";
};

TEST(ReadHeader, ReadsNoMoreThanItsLimitOfAnEndlessFile) {
  Limits limits;
  limits.header_bytes = 1 << 20;
  Endless source(endless_array(8, kMax));
  const auto header = read_header(source, limits);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().code, kGgufUnsupported);
  EXPECT_THAT(header.error().message, HasSubstr("a header of more than 1 MiB"));
  EXPECT_LE(source.bytes_read, (1 << 20) + 512);
}

}  // namespace
}  // namespace yoke::gguf
