#include "engines/model_format.h"

#include <chrono>

#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

TEST(EngineKindFor, ADirectoryIsForVllm) {
  const ScratchDir scratch;
  const fs::path file = scratch.write("m.gguf", "GGUF");
  EXPECT_EQ(engine_kind_for(scratch.path()), EngineKind::kVllm);
  EXPECT_EQ(engine_kind_for(file), EngineKind::kLlamaCpp);
  EXPECT_EQ(engine_kind_for(scratch.path() / "missing"), EngineKind::kLlamaCpp);
  fs::create_directory_symlink(scratch.path(), scratch.path() / "link");
  EXPECT_EQ(engine_kind_for(scratch.path() / "link"), EngineKind::kVllm);
}

TEST(ModelStamp, OfAFileChangesWithItsSizeAndTime) {
  const ScratchDir scratch;
  const fs::path file = scratch.write("m.gguf", "GGUF");
  const std::string first = model_stamp(file);
  EXPECT_NE(first, "0");
  EXPECT_EQ(model_stamp(file), first);
  const auto time = fs::last_write_time(file);
  scratch.write("m.gguf", "GGUF and more");
  fs::last_write_time(file, time);
  const std::string second = model_stamp(file);
  EXPECT_NE(second, first);
  fs::last_write_time(file, time + 1s);
  EXPECT_NE(model_stamp(file), second);
  EXPECT_EQ(model_stamp(scratch.path() / "missing"), "0");
}

TEST(ModelStamp, OfASplitModelCountsAllParts) {
  const ScratchDir scratch;
  const fs::path first = scratch.write("m-00001-of-00002.gguf", "GGUF");
  scratch.write("m-00002-of-00002.gguf", "12");
  const std::string before = model_stamp(first);
  scratch.write("m-00002-of-00002.gguf", "123");
  EXPECT_NE(model_stamp(first), before);
}

TEST(ModelStamp, OfADirectoryChangesWithWhatIsInIt) {
  const ScratchDir scratch;
  EXPECT_EQ(model_stamp(scratch.path()), "0");
  const fs::path config = scratch.write("config.json", "{}");
  scratch.write("model.safetensors", "12345678");
  const std::string first = model_stamp(scratch.path());
  EXPECT_EQ(first.size(), 16u);
  EXPECT_EQ(model_stamp(scratch.path()), first);
  scratch.write(".cache", "a downloader's notes don't count");
  EXPECT_EQ(model_stamp(scratch.path()), first);
  fs::last_write_time(config, fs::last_write_time(config) + 1s);
  const std::string second = model_stamp(scratch.path());
  EXPECT_NE(second, first);
  fs::rename(scratch.path() / "model.safetensors", scratch.path() / "other.safetensors");
  EXPECT_NE(model_stamp(scratch.path()), second);
}

TEST(WeightsBytes, AreThoseOfTheFormThatIsLoaded) {
  const ScratchDir scratch;
  EXPECT_EQ(weights_bytes(scratch.path()), 0u);
  EXPECT_EQ(weights_bytes(scratch.path() / "missing"), 0u);
  scratch.write("config.json", "{}");
  scratch.write("pytorch_model.bin", "123");
  EXPECT_EQ(weights_bytes(scratch.path()), 3u);
  scratch.write("model-00001-of-00002.safetensors", "1234");
  const fs::path elsewhere = scratch.write("blobs/abc", "12345");
  fs::create_symlink(elsewhere, scratch.path() / "model-00002-of-00002.safetensors");
  EXPECT_EQ(weights_bytes(scratch.path()), 9u);
}

}  // namespace
}  // namespace yoke::engines
