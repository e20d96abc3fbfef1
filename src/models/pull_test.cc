#include "models/pull.h"

#include <cstdlib>
#include <fstream>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Sets variables for one test.
class Environment {
 public:
  Environment() {
    for (const char* const name : {"HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME",
                                   "HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME", "HOME"}) {
      const char* const value = std::getenv(name);
      before_.emplace_back(name, value ? std::optional<std::string>(value) : std::nullopt);
      ::unsetenv(name);
    }
    set("HOME", "/nonexistent");
  }
  ~Environment() {
    for (const auto& [name, value] : before_) {
      ::unsetenv(name.c_str());
      if (value) set(name.c_str(), *value);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

TEST(HubAccess, WithoutAnything) {
  const Environment environment;
  EXPECT_EQ(hub_access().endpoint, "https://huggingface.co");
  EXPECT_EQ(hub_access().token, "");
}

TEST(HubAccess, FromTheEnvironment) {
  const Environment environment;
  environment.set("HF_ENDPOINT", "https://mirror.example/hub//");
  environment.set("HF_TOKEN", " hf_abc\n");
  EXPECT_EQ(hub_access().endpoint, "https://mirror.example/hub");
  EXPECT_EQ(hub_access().token, "hf_abc");
}

TEST(HubAccess, FromFiles) {
  const Environment environment;
  const gguf::ScratchDir dir;
  dir.write("token", "hf_home\n");
  const fs::path other = dir.write("other", "hf_path\n");
  environment.set("HF_HOME", dir.path().string());
  EXPECT_EQ(hub_access().token, "hf_home");
  environment.set("HF_TOKEN_PATH", other.string());
  EXPECT_EQ(hub_access().token, "hf_path");
  environment.set("HF_TOKEN", "hf_direct");
  EXPECT_EQ(hub_access().token, "hf_direct");
}

TEST(HubAccess, WhatWouldBeAnotherHeaderIsNoToken) {
  const Environment environment;
  environment.set("HF_TOKEN", "hf_a\r\nX-Evil: 1");
  EXPECT_EQ(hub_access().token, "");
}

TEST(Pull, AFileIsLinked) {
  const gguf::ScratchDir dir;
  const fs::path file = dir.write("tiny-Q4_K_M.gguf", gguf::small_model().file());
  PullOptions options;
  options.model_dir = dir.path() / "models";
  const auto entry = pull(FileReference{file}, options);
  ASSERT_TRUE(entry) << entry.error().text();
  EXPECT_EQ(entry->name, "tiny-Q4_K_M");
  EXPECT_EQ(entry->source, "file:" + file.string());
  EXPECT_TRUE(entry->files.at(0).linked);
  const auto catalogue = Catalogue::open(options.model_dir, Catalogue::Use::kRead);
  EXPECT_EQ((*catalogue)->find("tiny-Q4_K_M")->path, file);
}

TEST(Pull, ErrorsOfFiles) {
  const gguf::ScratchDir dir;
  PullOptions options;
  options.model_dir = dir.path() / "models";
  const auto foreign = pull(FileReference{dir.write("a.gguf", "\x89PNG\r\n\x1a\n")}, options);
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().message, HasSubstr("PNG"));
  const auto directory = pull(FileReference{dir.path()}, options);
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().hint, HasSubstr("yoke import"));
  options.name = "no good name";
  EXPECT_EQ(pull(FileReference{"/x"}, options).error().code, kInvalidArgument);
}

TEST(Pull, AServerThatIsNotThereIsGivenUp) {
  const gguf::ScratchDir dir;
  PullOptions options;
  options.model_dir = dir.path() / "models";
  options.hub.endpoint = "http://127.0.0.1:1";  // Nobody listens there.
  std::atomic<bool> cancel{false};
  options.cancel = &cancel;
  std::vector<std::string> notes;
  options.on_note = [&](const std::string& note) {
    notes.push_back(note);
    cancel = true;
  };
  const auto entry = pull(HubReference{"a/b", "main", ""}, options);
  ASSERT_FALSE(entry);
  EXPECT_EQ(entry.error().code, kPullCancelled);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("trying again in"));
}

}  // namespace
}  // namespace yoke::models
