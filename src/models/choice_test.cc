#include "models/choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/pull.h"

namespace yoke::models {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<HubFile> files(std::initializer_list<const char*> paths) {
  std::vector<HubFile> list;
  for (const char* const path : paths) list.push_back({path, 100, {}});
  return list;
}

std::vector<std::string> paths(const Choice& choice) {
  std::vector<std::string> list;
  for (const ChosenFile& file : choice.files) list.push_back(file.file.path);
  return list;
}

std::vector<std::string> chosen(const std::vector<HubFile>& list, std::string_view what,
                                bool projector = true) {
  const auto choice = choose(list, what, projector, "org/repo");
  return choice ? paths(*choice) : std::vector<std::string>{choice.error().text()};
}

TEST(Choose, AQuantization) {
  const auto list = files({"m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-UD-Q2_K_XL.gguf", "m.BF16.gguf"});
  EXPECT_THAT(chosen(list, "q8_0"), ElementsAre("m-Q8_0.gguf"));
  EXPECT_THAT(chosen(list, "UD-Q2_K_XL"), ElementsAre("m-UD-Q2_K_XL.gguf"));
  EXPECT_THAT(chosen(list, "Q2_K_XL"), ElementsAre("m-UD-Q2_K_XL.gguf"));
  EXPECT_THAT(chosen(list, "bf16"), ElementsAre("m.BF16.gguf"));
}

TEST(Choose, TheExactOneBeforeOnesThatContainIt) {
  const auto list = files({"m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-IQ4_XS.gguf"});
  EXPECT_THAT(chosen(list, "Q4_K_M"), ElementsAre("m-Q4_K_M.gguf"));
  EXPECT_THAT(chosen(list, "Q4_K"), ElementsAre(HasSubstr("has no 'Q4_K'")));
}

TEST(Choose, TheUsualOne) {
  EXPECT_THAT(chosen(files({"m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"}), ""),
              ElementsAre("m-Q4_K_M.gguf"));
  EXPECT_THAT(chosen(files({"m-Q2_K.gguf", "m-Q8_0.gguf", "m-Q4_0.gguf"}), ""),
              ElementsAre("m-Q4_0.gguf"));
  EXPECT_THAT(chosen(files({"b.gguf", "a.gguf"}), ""), ElementsAre("a.gguf"));
}

TEST(Choose, AFile) {
  const auto list = files({"m-Q4_K_M.gguf", "old/m-Q4_0.gguf"});
  EXPECT_THAT(chosen(list, "old/m-Q4_0.gguf"), ElementsAre("old/m-Q4_0.gguf"));
  EXPECT_THAT(chosen(list, "M-Q4_0.GGUF"), ElementsAre("old/m-Q4_0.gguf"));
}

TEST(Choose, SplitFilesAsASet) {
  const auto list =
      files({"Q8_0/m-00002-of-00002.gguf", "Q8_0/m-00001-of-00002.gguf", "m-Q4_0.gguf"});
  for (const char* const what : {"Q8_0", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    EXPECT_THAT(chosen(list, what),
                ElementsAre("Q8_0/m-00001-of-00002.gguf", "Q8_0/m-00002-of-00002.gguf"))
        << what;
  }
  EXPECT_EQ(choose(list, "Q8_0", true, "org/repo")->name, "m");
}

TEST(Choose, ASetThatLacksAPart) {
  const auto choice = choose(files({"m-Q8_0-00001-of-00003.gguf"}), "", true, "org/repo");
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().code, kHubNotFound);
  EXPECT_THAT(choice.error().message, HasSubstr("1 of the 3 parts"));
}

TEST(Choose, TheProjectorThatIsNearest) {
  const auto list = files({"mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf",
                           "a/mmproj-Q8_0.gguf", "a/m-Q4_0.gguf", "m-Q8_0.gguf"});
  EXPECT_THAT(chosen(list, "Q8_0"), ElementsAre("m-Q8_0.gguf", "mmproj-F16.gguf"));
  EXPECT_THAT(chosen(list, "Q4_0"), ElementsAre("a/m-Q4_0.gguf", "a/mmproj-Q8_0.gguf"));
  EXPECT_THAT(chosen(list, "Q8_0", false), ElementsAre("m-Q8_0.gguf"));
}

TEST(Choose, WhatOnlyGoesWithAModelIsNone) {
  const auto list = files({"imatrix_unsloth.gguf", "mmproj-F16.gguf", "mtp-m-Q4_K_M.gguf"});
  EXPECT_THAT(chosen(list, ""), ElementsAre(HasSubstr("none is a model by itself")));
}

TEST(Choose, ErrorsListWhatThereIs) {
  const auto choice =
      choose(files({"m-Q4_0.gguf", "m-Q8_0.gguf", "x.gguf"}), "Q5", true, "org/repo");
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().code, kHubNotFound);
  EXPECT_EQ(choice.error().hint, "It has Q4_0, Q8_0, x.gguf.");
}

TEST(Choose, TwoThatAreMeantAreNone) {
  EXPECT_THAT(chosen(files({"a-7b-Q4_0.gguf", "a-3b-Q4_0.gguf"}), "Q4_0"),
              ElementsAre(HasSubstr("a-3b-Q4_0.gguf, a-7b-Q4_0.gguf")));
  EXPECT_THAT(chosen(files({"a-7b-Q4_0.gguf", "a-3b-Q4_0.gguf"}), "3b"),
              ElementsAre("a-3b-Q4_0.gguf"));
}

TEST(Choose, AHuggingFaceModel) {
  const auto list = files({".gitattributes", "README.md", "config.json", "chat_template.jinja",
                           "consolidated.safetensors", "merges.txt", "model.safetensors",
                           "modeling_x.py", "onnx/model.onnx", "onnx/config.json",
                           "1_Pooling/config.json", "tokenizer.model", "pytorch_model.bin"});
  const auto choice = choose(list, "", true, "org/Model-1B");
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->format, "huggingface");
  EXPECT_EQ(choice->name, "Model-1B");
  EXPECT_THAT(paths(*choice),
              ElementsAre("config.json", "chat_template.jinja", "merges.txt", "model.safetensors",
                          "1_Pooling/config.json", "tokenizer.model"));
  EXPECT_EQ(choice->files[1].role, FileRole::kTokenizer);
  EXPECT_EQ(choice->files[3].role, FileRole::kWeights);
}

TEST(Choose, NothingToRun) {
  EXPECT_THAT(chosen(files({"README.md", "data.parquet"}), ""),
              ElementsAre(HasSubstr("neither GGUF nor safetensors")));
  EXPECT_THAT(chosen(files({"adapter_model.safetensors"}), ""),
              ElementsAre(HasSubstr("no config.json")));
  EXPECT_THAT(chosen(files({"model.safetensors", "config.json"}), "Q4_0"),
              ElementsAre(HasSubstr("no GGUF files")));
}

}  // namespace
}  // namespace yoke::models
