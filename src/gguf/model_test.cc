#include "gguf/model.h"

#include <sys/stat.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/file_source.h"
#include "gguf/test_support.h"

namespace yoke::gguf {
namespace {

using testing::HasSubstr;

// Part `number` (from 0) of `count`, with one tensor of its own.
Writer part(std::uint16_t number, std::uint16_t count, std::int32_t tensors) {
  Writer writer;
  if (number == 0) writer.add("general.architecture", "llama");
  writer.add("split.no", number).add("split.count", count).add("split.tensors.count", tensors);
  writer.tensor(fmt::format("blk.{}", number), {32}, 0, 128);
  return writer;
}

std::string part_name(int number, int count) {
  return fmt::format("m-{:05}-of-{:05}.gguf", number, count);
}

Result<Model> open_parts(const ScratchDir& dir, const std::vector<Writer>& parts) {
  const int count = static_cast<int>(parts.size());
  for (int i = 0; i < count; ++i) {
    dir.write(part_name(i + 1, count), parts[static_cast<std::size_t>(i)].file());
  }
  return open_model(dir.path() / part_name(1, count));
}

void expect_error(const Result<Model>& model, ErrorCode code, const std::string& said) {
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, code) << model.error().text();
  EXPECT_THAT(model.error().message, HasSubstr(said));
  EXPECT_NE(model.error().hint, "");
}

TEST(OpenModel, ReadsASingleFile) {
  const ScratchDir dir;
  const std::string file = small_model().file();
  const auto model = open_model(dir.write("m.gguf", file));
  ASSERT_TRUE(model) << model.error().text();
  EXPECT_EQ(model->version, 3);
  EXPECT_EQ(model->parts.size(), 1);
  EXPECT_EQ(model->file_bytes(), file.size());
  EXPECT_EQ(model->tensors.size(), 2);
  EXPECT_FALSE(model->lone_part);
}

TEST(OpenModel, JoinsTheParts) {
  const ScratchDir dir;
  const std::vector<Writer> parts{part(0, 3, 3), part(1, 3, 3), part(2, 3, 3)};
  const auto model = open_parts(dir, parts);
  ASSERT_TRUE(model) << model.error().text();
  EXPECT_EQ(model->parts.size(), 3);
  EXPECT_EQ(model->parts[2].name, (dir.path() / part_name(3, 3)).string());
  EXPECT_EQ(model->metadata.architecture(), "llama");
  EXPECT_EQ(model->file_bytes(),
            parts[0].file().size() + parts[1].file().size() + parts[2].file().size());
  ASSERT_EQ(model->tensors.size(), 3);
  EXPECT_EQ(model->tensors[2].name, "blk.2");
  EXPECT_EQ(model->tensors[2].part, 2);
  EXPECT_FALSE(model->lone_part);
}

TEST(OpenModel, ReadsAnotherPartOnItsOwn) {
  const ScratchDir dir;
  const auto model = open_model(dir.write(part_name(2, 3), part(1, 3, 3).file()));
  ASSERT_TRUE(model) << model.error().text();
  ASSERT_TRUE(model->lone_part);
  EXPECT_EQ(model->lone_part->number, 1);
  EXPECT_EQ(model->tensors.size(), 1);
}

TEST(OpenModel, MissesAPart) {
  const ScratchDir dir;
  dir.write(part_name(2, 3), part(1, 3, 3).file());
  const auto model = open_model(dir.write(part_name(1, 3), part(0, 3, 3).file()));
  expect_error(model, kModelFileMissing, "Part 3 of the 3 of this model is missing: there is no ");
}

TEST(OpenModel, RefusesPartsThatDoNotFit) {
  expect_error(open_parts(ScratchDir(), {part(0, 2, 2), part(0, 2, 2)}), kGgufInvalid,
               "is not part 2 of 2");
  expect_error(open_parts(ScratchDir(), {part(0, 2, 2), part(1, 3, 2)}), kGgufInvalid,
               "is not part 2 of 2");
  expect_error(open_parts(ScratchDir(), {part(0, 2, 2), small_model()}), kGgufInvalid,
               "is not part 2 of 2");
  expect_error(open_parts(ScratchDir(), {part(0, 2, 2), part(1, 2, 3)}), kGgufInvalid,
               "another number of tensors");
  expect_error(open_parts(ScratchDir(), {part(0, 2, 9), part(1, 2, 9)}), kGgufTruncated,
               "hold 2 tensors; 9 were expected");
  Writer other = part(1, 2, 2);
  other.add("general.architecture", "qwen3");
  expect_error(open_parts(ScratchDir(), {part(0, 2, 2), other}), kGgufInvalid,
               "another architecture");
  Writer twice = part(1, 2, 3);
  twice.tensor("blk.0", {32}, 0, 128);
  expect_error(open_parts(ScratchDir(), {part(0, 2, 3), twice}), kGgufInvalid,
               "an earlier part of the model holds too");
}

TEST(OpenModel, NeedsTheNamesOfTheParts) {
  const ScratchDir dir;
  expect_error(open_model(dir.write("blob", part(0, 2, 2).file())), kGgufInvalid,
               "ends in -00001-of-00002.gguf was expected");
  expect_error(open_model(dir.write(part_name(1, 3), part(0, 2, 2).file())), kGgufInvalid,
               "ends in -00001-of-00002.gguf was expected");
}

TEST(OpenModel, RefusesAModelOfTooManyParts) {
  const ScratchDir dir;
  const auto model = open_model(dir.write("m.gguf", part(0, 60'000, 2).file()));
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, kGgufUnsupported);
}

TEST(OpenModel, SaysWhatIsNoFile) {
  const ScratchDir dir;
  expect_error(open_model(dir.path() / "none.gguf"), kModelFileMissing, "There is no model file");
  expect_error(open_model(dir.write("file", "x") / "below"), kModelFileMissing, "There is no");
  expect_error(open_model(dir.path()), kGgufInvalid, "is a directory");
  expect_error(open_model(dir.write("empty", "")), kGgufInvalid, "is empty");
  ASSERT_EQ(::mkfifo((dir.path() / "pipe").c_str(), 0600), 0);
  expect_error(open_model(dir.path() / "pipe"), kGgufInvalid, "is no regular file");
}

TEST(FileSourceTest, ReadsUpToTheEnd) {
  const ScratchDir dir;
  auto source = FileSource::open(dir.write("f", "0123456789"));
  ASSERT_TRUE(source);
  EXPECT_EQ(source->size(), 10);
  std::string bytes(4, '\0');
  EXPECT_EQ(source->read(8, bytes), 2);
  EXPECT_EQ(bytes.substr(0, 2), "89");
  EXPECT_EQ(source->read(10, bytes), 0);
  EXPECT_EQ(source->read(~std::uint64_t{0}, bytes), 0);
}

TEST(SplitNameTest, IsTakenApartAndPutTogether) {
  const auto name = parse_split_name("my-model-00002-of-00013.gguf");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->prefix, "my-model");
  EXPECT_EQ(name->number, 2);
  EXPECT_EQ(name->count, 13);
  EXPECT_EQ(name->of(1), "my-model-00001-of-00013.gguf");
  for (const char* const other :
       {"", "model.gguf", "-00001-of-00002.gguf", "m-00000-of-00002.gguf", "m-00003-of-00002.gguf",
        "m-00001-of-0000x.gguf", "m-+0001-of-00002.gguf", "m-00001-of-00002.bin", "m-1-of-2.gguf",
        "m_00001-of-00002.gguf", "m-00001of--00002.gguf"}) {
    EXPECT_FALSE(parse_split_name(other)) << other;
  }
}

}  // namespace
}  // namespace yoke::gguf
