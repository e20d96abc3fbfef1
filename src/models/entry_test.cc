#include "models/entry.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string safetensors(const std::string& header) {
  return gguf::raw<std::uint64_t>(header.size()) + header + std::string(64, '\0');
}

const std::string kShard = safetensors(
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[4,8],"data_offsets":[0,64]},)"
    R"("b":{"dtype":"F16","shape":[3],"data_offsets":[64,70]}})");

TEST(QuantizationIn, IsTheLastWordThatLooksLikeOne) {
  EXPECT_EQ(quantization_in("Llama-3.2-3B-Instruct-Q4_K_M"), "Q4_K_M");
  EXPECT_EQ(quantization_in("Kimi-K2.5-UD-Q2_K_XL"), "UD-Q2_K_XL");
  EXPECT_EQ(quantization_in("smollm.ud-q8_0"), "UD-Q8_0");
  EXPECT_EQ(quantization_in("Qwen3-8B-BF16"), "BF16");
  EXPECT_EQ(quantization_in("gpt-oss-20b-MXFP4"), "MXFP4");
  EXPECT_EQ(quantization_in("model-IQ2_XXS"), "IQ2_XXS");
  EXPECT_EQ(quantization_in("Qwen3-8B"), "");
  EXPECT_EQ(quantization_in(""), "");
}

TEST(ModelStem, IsTheNameOfAllParts) {
  EXPECT_EQ(model_stem("/m/a.b-00001-of-00003.gguf"), "a.b");
  EXPECT_EQ(model_stem("/m/a.b.gguf"), "a.b");
}

TEST(GgufEntry, SaysWhatTheHeaderSays) {
  const gguf::ScratchDir dir;
  const fs::path file = dir.write("Tiny-UD-Q4_K_XL.gguf", gguf::small_model().file());
  const auto entry = gguf_entry(file);
  ASSERT_TRUE(entry) << entry.error().text();
  EXPECT_EQ(entry->format, "gguf");
  EXPECT_EQ(entry->path, file);
  EXPECT_EQ(entry->architecture, "llama");
  EXPECT_EQ(entry->quantization, "UD-Q4_K_XL");
  EXPECT_EQ(entry->parameters, 256u * 4);
  EXPECT_EQ(entry->context_length, 4096u);
  ASSERT_EQ(entry->files.size(), 1u);
  EXPECT_EQ(entry->files.front().bytes, fs::file_size(file));
  EXPECT_EQ(gguf_entry(dir.write("tiny.gguf", gguf::small_model().file()))->quantization, "Q4_K_M");
}

TEST(GgufEntry, RefusesWhatIsNoModelByItself) {
  const gguf::ScratchDir dir;
  gguf::Writer projector;
  projector.add("general.architecture", "clip").tensor("v.weight", {32}, 0, 128);
  const auto entry = gguf_entry(dir.write("mmproj.gguf", projector.file()));
  EXPECT_EQ(entry.error().code, kNoModel);
  EXPECT_THAT(entry.error().message, HasSubstr("is a multimodal projector"));
  EXPECT_EQ(gguf_entry(dir.write("a.gguf", "\x89PNG")).error().code, gguf::kGgufInvalid);
}

TEST(HuggingFaceEntry, SaysWhatConfigAndHeadersSay) {
  const gguf::ScratchDir dir;
  dir.write("config.json", R"({"model_type":"qwen3","torch_dtype":"bfloat16",
            "max_position_embeddings":40960})");
  dir.write("model-00001-of-00002.safetensors", kShard);
  dir.write("model-00002-of-00002.safetensors", kShard);
  dir.write("model.safetensors.index.json",
            R"({"weight_map":{"a":"model-00001-of-00002.safetensors",
                "b":"model-00002-of-00002.safetensors"}})");
  dir.write("tokenizer.json", "{}");
  ASSERT_TRUE(is_huggingface_model(dir.path()));
  const auto entry = huggingface_entry(dir.path() / "");
  ASSERT_TRUE(entry) << entry.error().text();
  EXPECT_EQ(entry->format, "huggingface");
  EXPECT_EQ(entry->path, dir.path());
  EXPECT_EQ(entry->architecture, "qwen3");
  EXPECT_EQ(entry->quantization, "BF16");
  EXPECT_EQ(entry->parameters, 2u * 35);
  EXPECT_EQ(entry->context_length, 40960u);
  ASSERT_EQ(entry->files.size(), 5u);
  EXPECT_EQ(entry->files[1].role, FileRole::kWeights);
  EXPECT_EQ(entry->files[4].role, FileRole::kTokenizer);

  fs::remove(dir.path() / "model-00002-of-00002.safetensors");
  const Error missing = huggingface_entry(dir.path()).error();
  EXPECT_EQ(missing.code, kNoModel);
  EXPECT_THAT(missing.message, HasSubstr("lacks 1 of the files of its weights: model-00002-of-"));
}

TEST(HuggingFaceEntry, AQuantizedModelHasNoCountOfParameters) {
  const gguf::ScratchDir dir;
  dir.write("config.json", R"({"quantization_config":{"quant_method":"awq","bits":4},
            "text_config":{"max_position_embeddings":1024}})");
  dir.write("model.safetensors", kShard);
  const auto entry = huggingface_entry(dir.path());
  EXPECT_EQ(entry->quantization, "awq 4-bit");
  EXPECT_EQ(entry->parameters, 0u);
  EXPECT_EQ(entry->context_length, 1024u);
}

TEST(HuggingFaceEntry, HostileFilesAreOnlyUnknown) {
  const gguf::ScratchDir dir;
  dir.write("config.json", R"({"model_type":7,"max_position_embeddings":-1,"text_config":[],
            "quantization_config":"x"})");
  for (const std::string& weights :
       {std::string(), std::string("short"), std::string(16, '\xff'), safetensors("[]"),
        safetensors("{\"a\":{\"shape\":[-1,\"x\",99999999999999]}}"), safetensors("{")}) {
    dir.write("model.safetensors", weights);
    const auto entry = huggingface_entry(dir.path());
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->parameters, 0u);
    EXPECT_EQ(entry->context_length, 0u);
  }
  dir.write("config.json", "{");
  EXPECT_EQ(huggingface_entry(dir.path()).error().code, kNoModel);
}

}  // namespace
}  // namespace yoke::models
