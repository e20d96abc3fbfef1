#include "models/import.h"

#include <algorithm>
#include <stdlib.h>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

const std::string kModel = gguf::small_model().file();
const std::string kShaA(64, 'a');
const std::string kShaB(64, 'b');
const std::string kCommit(40, 'c');

std::string projector(std::uint32_t width = 256) {
  gguf::Writer writer;
  writer.add("general.architecture", "clip")
      .add<std::uint32_t>("clip.vision.projection_dim", width);
  return writer.tensor("v.weight", {32}, 0, 128).file();
}

std::string model_called(const std::string& title) {
  gguf::Writer writer;
  writer.add("general.architecture", "llama").add("general.name", title);
  writer.add<std::uint32_t>("llama.embedding_length", 256);
  return writer.tensor("token_embd.weight", {256, 3}, 0, 256 * 3 * 4).file();
}

std::string part(std::uint16_t number, std::uint16_t count) {
  gguf::Writer writer;
  if (number == 0) writer.add("general.architecture", "llama");
  writer.add<std::uint16_t>("split.no", number).add<std::uint16_t>("split.count", count);
  writer.add<std::int32_t>("split.tensors.count", count);
  return writer.tensor(fmt::format("blk.{}.weight", number), {32}, 0, 128).file();
}

class ImportTest : public testing::Test {
 protected:
  fs::path root() const { return scratch_.path() / "store"; }
  fs::path write(const fs::path& name, const std::string& content) const {
    fs::create_directories((root() / name).parent_path());
    std::ofstream(root() / name, std::ios::binary) << content;
    return root() / name;
  }
  Found scan_root() const {
    auto found = scan(root());
    EXPECT_TRUE(found) << found.error().text();
    return found ? std::move(*found) : Found{};
  }
  static std::vector<std::string> names(const Found& found) {
    std::vector<std::string> result;
    for (const CatalogueEntry& entry : found.models) result.push_back(entry.name);
    return result;
  }
  static std::string why(const Found& found, const std::string& file_name) {
    for (const Skipped& skipped : found.skipped) {
      if (skipped.path.filename() == file_name) return skipped.why;
    }
    return "not skipped";
  }
  std::unique_ptr<Catalogue> catalogue() const {
    return std::move(*Catalogue::open(scratch_.path() / "models", Catalogue::Use::kChange));
  }

  gguf::ScratchDir scratch_;
};

TEST_F(ImportTest, FindsGgufFilesAndSaysWhatIsNone) {
  write("b.gguf", kModel);
  write("sub/My Model (x).GGUF", kModel);
  write("sub/b.gguf", kModel);
  write("notes.txt", "not looked at");
  write("picture.gguf", "\x89PNG\r\n\x1a\n");
  write("adapter.gguf", gguf::Writer()
                            .add("general.architecture", "llama")
                            .add("general.type", "adapter")
                            .tensor("a", {32}, 0, 128)
                            .file());
  fs::create_symlink("nowhere", root() / "gone.gguf");
  const Found found = scan_root();
  EXPECT_EQ(found.kind, "GGUF files");
  EXPECT_THAT(names(found), ElementsAre("b", "My-Model--x-", "b-2"));
  for (const CatalogueEntry& entry : found.models) {
    EXPECT_TRUE(entry.files.front().linked);
    EXPECT_EQ(entry.source, "file:" + entry.path.string());
  }
  EXPECT_THAT(why(found, "picture.gguf"), HasSubstr("is a PNG image"));
  EXPECT_THAT(why(found, "adapter.gguf"), HasSubstr("LoRA adapter"));
  EXPECT_THAT(why(found, "gone.gguf"), HasSubstr("link to a file that is not there"));
  EXPECT_THAT(found.skipped, SizeIs(3));
}

TEST_F(ImportTest, ASplitModelIsOne) {
  write("big-00001-of-00002.gguf", part(0, 2));
  write("big-00002-of-00002.gguf", part(1, 2));
  write("lone-00002-of-00002.gguf", part(1, 2));
  write("half-00001-of-00002.gguf", part(0, 2));
  const Found found = scan_root();
  ASSERT_THAT(names(found), ElementsAre("big"));
  EXPECT_THAT(found.models.front().files, SizeIs(2));
  EXPECT_EQ(found.models.front().path.filename(), "big-00001-of-00002.gguf");
  EXPECT_THAT(why(found, "lone-00002-of-00002.gguf"), HasSubstr("first part is not there"));
  EXPECT_THAT(why(found, "half-00001-of-00002.gguf"), HasSubstr("Part 2 of the 2"));
}

TEST_F(ImportTest, AProjectorGoesWithTheModelOfItsDirectory) {
  write("vl/Some-Q4_0.gguf", kModel);
  write("vl/Some-Q8_0.gguf", kModel);
  write("vl/mmproj-F16.gguf", projector());
  write("flat/gemma-3-4b-Q4_0.gguf", model_called("Gemma"));
  write("flat/qwen2-vl-7b-Q4_0.gguf", model_called("Qwen"));
  write("flat/mmproj-qwen2-vl-7b.gguf", projector());
  write("other/small.gguf", kModel);
  write("other/mmproj.gguf", projector(9999));
  const Found found = scan_root();
  ASSERT_THAT(names(found), ElementsAre("gemma-3-4b-Q4_0", "qwen2-vl-7b-Q4_0", "small", "Some-Q4_0",
                                        "Some-Q8_0"));
  const auto projector_of = [&](std::size_t i) {
    return found.models[i].projector().filename().string();
  };
  EXPECT_EQ(projector_of(0), "");
  EXPECT_EQ(projector_of(1), "mmproj-qwen2-vl-7b.gguf");
  EXPECT_EQ(projector_of(2), "");
  EXPECT_EQ(projector_of(3), "mmproj-F16.gguf");
  EXPECT_EQ(projector_of(4), "mmproj-F16.gguf");
  EXPECT_THAT(why(found, "mmproj.gguf"), HasSubstr("its model is not with it"));
}

TEST_F(ImportTest, LinksThatGoInCirclesEnd) {
  write("a/b/model.gguf", kModel);
  fs::create_directory_symlink(root(), root() / "a/b/up");
  fs::create_directory_symlink(root() / "a", root() / "again");
  fs::create_symlink(root() / "a/b/model.gguf", root() / "alias.gguf");
  EXPECT_THAT(names(scan_root()), ElementsAre("alias"));
}

TEST_F(ImportTest, WhatLiesTooDeepIsSaid) {
  fs::path deep = "0";
  for (int i = 1; i < 20; ++i) deep /= std::to_string(i);
  write(deep / "model.gguf", kModel);
  const Found found = scan_root();
  EXPECT_THAT(found.models, IsEmpty());
  ASSERT_THAT(found.skipped, SizeIs(1));
  EXPECT_THAT(found.skipped.front().why, HasSubstr("too deep"));
}

std::string layer(const std::string& type, const std::string& sha256, std::uint64_t size) {
  return fmt::format(R"({{"mediaType":"application/vnd.ollama.image.{}","digest":"sha256:{}",)"
                     R"("size":{}}})",
                     type, sha256, size);
}

std::string manifest(const std::string& layers) {
  return R"({"schemaVersion":2,"config":{"digest":"sha256:x","size":1},"layers":[)" + layers + "]}";
}

TEST_F(ImportTest, ReadsOllamasStore) {
  write("blobs/sha256-" + kShaA, kModel);
  write("blobs/sha256-" + kShaB, projector());
  const std::string weights = layer("model", kShaA, kModel.size());
  const std::string library = "manifests/registry.ollama.ai/library/";
  write(library + "llama3.2/3b", manifest(weights + "," + layer("template", kShaA, 3)));
  write(library + "llava/latest",
        manifest(weights + "," + layer("projector", kShaB, projector().size())));
  write("manifests/registry.ollama.ai/me/mine/v1", manifest(weights));
  write("manifests/hf.co/org/repo/Q4_K_M", manifest(weights));
  write(library + "tuned/latest", manifest(weights + "," + layer("adapter", kShaB, 1)));
  write(library + "cloud/latest", manifest(""));
  write(library + "cut/latest", manifest(layer("model", kShaA, kModel.size() + 1)));
  write(library + "gone/latest", manifest(layer("model", std::string(64, 'd'), 1)));
  write(library + "evil/latest", manifest(layer("model", "../../../../etc/passwd", 1)));
  write(library + "odd/latest", "[]");
  const Found found = scan_root();
  EXPECT_EQ(found.kind, "Ollama's store");
  EXPECT_THAT(names(found),
              ElementsAre("hf.co/org/repo:Q4_K_M", "llama3.2:3b", "llava:latest", "me/mine:v1"));
  const CatalogueEntry& llama = found.models[1];
  EXPECT_EQ(llama.path, root() / ("blobs/sha256-" + kShaA));
  EXPECT_EQ(llama.source, "ollama:llama3.2:3b");
  EXPECT_EQ(llama.quantization, "Q4_K_M");
  ASSERT_THAT(llama.files, SizeIs(1));
  EXPECT_EQ(llama.files.front().sha256, kShaA);
  EXPECT_EQ(found.models[2].projector(), root() / ("blobs/sha256-" + kShaB));
  EXPECT_TRUE(found.models[2].files.back().linked);
  EXPECT_THAT(found.skipped, SizeIs(6));
  // Its root is found from the directory above too.
  fs::rename(root(), scratch_.path() / "models");
  fs::create_directory(root());
  fs::rename(scratch_.path() / "models", root() / "models");
  EXPECT_THAT(scan_root().models, SizeIs(4));
}

TEST_F(ImportTest, ReadsLmStudiosStore) {
  const fs::path store = scratch_.path() / ".lmstudio/models";
  fs::create_directories(store / "infra-ai/ocelot-GGUF");
  std::ofstream(store / "infra-ai/ocelot-GGUF/ocelot-q4_0.gguf", std::ios::binary) << kModel;
  std::ofstream(store / "infra-ai/ocelot-GGUF/ocelot-q8_0.gguf", std::ios::binary) << kModel;
  for (const fs::path& dir : {store, store.parent_path()}) {
    const auto found = scan(dir);
    EXPECT_EQ(found->kind, "LM Studio's store");
    EXPECT_THAT(names(*found),
                ElementsAre("infra-ai/ocelot-GGUF:Q4_0", "infra-ai/ocelot-GGUF:Q8_0"));
  }
}

TEST_F(ImportTest, ReadsAHuggingFaceCache) {
  const fs::path gguf = "models--org--tiny--GGUF";
  write(gguf / "refs/main", kCommit);
  write(gguf / "blobs" / kShaA, kModel);
  const std::string old_commit(40, 'd');
  for (const std::string& commit : {kCommit, old_commit}) {
    fs::create_directories(root() / gguf / "snapshots" / commit);
    fs::create_symlink("../../blobs/" + kShaA,
                       root() / gguf / "snapshots" / commit / "tiny-Q4_0.gguf");
  }
  write(gguf / "blobs" / (kShaB + ".incomplete"), "half");
  const fs::path plain = fs::path("models--gpt2") / "snapshots" / kCommit;
  write(plain / "config.json", R"({"model_type":"gpt2","max_position_embeddings":1024})");
  write(plain / "model.safetensors", std::string(64, '\0'));
  write("models--org--only-refs/refs/main", kCommit);
  write("models--evil--ref/refs/main", "../../../..");
  write("datasets--org--data/refs/main", kCommit);
  const Found found = scan_root();
  EXPECT_EQ(found.kind, "a HuggingFace cache");
  ASSERT_THAT(names(found), ElementsAre("gpt2", "org/tiny--GGUF:Q4_0"));
  EXPECT_EQ(found.models[0].format, "huggingface");
  EXPECT_EQ(found.models[0].path, root() / plain);
  EXPECT_EQ(found.models[0].context_length, 1024u);
  EXPECT_EQ(found.models[1].revision, kCommit);
  EXPECT_EQ(found.models[1].files.front().sha256, kShaA);
  EXPECT_EQ(found.models[1].source, "hf-cache:org/tiny--GGUF");
}

TEST_F(ImportTest, LinkingAgainChangesNothing) {
  write("a.gguf", kModel);
  write("b.gguf", kModel);
  const auto models = catalogue();
  const auto first = link(*models, scan_root().models);
  ASSERT_THAT(*first, SizeIs(2));
  EXPECT_TRUE(first->front().added);
  const auto before = *models->entries();
  const auto again = link(*models, scan_root().models);
  EXPECT_FALSE(again->front().added);
  EXPECT_FALSE(again->front().changed);
  EXPECT_EQ(*models->entries(), before);

  write("b.gguf", model_called("another"));
  const auto changed = link(*models, scan_root().models);
  EXPECT_FALSE(changed->back().added);
  EXPECT_TRUE(changed->back().changed);
  EXPECT_EQ(models->find("b")->parameters, 768u);
  EXPECT_EQ(models->find("b")->added, before.back().added);
}

TEST_F(ImportTest, ANameThatIsTakenAndADownloadAreLeftAlone) {
  const auto models = catalogue();
  const fs::path file = write("a.gguf", kModel);
  CatalogueEntry downloaded = scan_root().models.front();
  downloaded.name = "mine";
  downloaded.files.front().linked = false;
  ASSERT_TRUE(models->put(downloaded));
  CatalogueEntry other = downloaded;
  other.name = "b";
  other.path = "/elsewhere/b.gguf";
  ASSERT_TRUE(models->put(other));
  write("b.gguf", kModel);
  const auto linked = link(*models, scan_root().models);
  ASSERT_THAT(*linked, SizeIs(2));
  EXPECT_EQ(linked->front().entry, downloaded);
  EXPECT_EQ(linked->back().entry.name, "b-2");
  EXPECT_EQ(*models->find("mine"), downloaded);
  EXPECT_EQ(*models->find("b"), other);
}

TEST_F(ImportTest, ADirectoryThatIsNoneIsAnError) {
  EXPECT_EQ(scan(root()).error().code, kInvalidArgument);
  write("a.gguf", kModel);
  EXPECT_EQ(scan(root() / "a.gguf").error().code, kInvalidArgument);
}

TEST_F(ImportTest, KnowsWhereTheStoresOfAUserAre) {
  const std::string home = scratch_.path().string();
  ::setenv("HOME", home.c_str(), 1);
  for (const char* const name : {"XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE"}) {
    ::unsetenv(name);
  }
  fs::create_directories(scratch_.path() / "big/ollama");
  ::setenv("OLLAMA_MODELS", (home + "/big/ollama").c_str(), 1);
  fs::create_directories(scratch_.path() / ".lmstudio/models");
  fs::create_directories(scratch_.path() / ".cache/huggingface/hub");
  const std::vector<fs::path> stores = known_stores();
  ::unsetenv("OLLAMA_MODELS");
  EXPECT_THAT(stores, testing::IsSupersetOf({fs::path(home) / "big/ollama",
                                             fs::path(home) / ".lmstudio/models",
                                             fs::path(home) / ".cache/huggingface/hub"}));
}

}  // namespace
}  // namespace yoke::models
