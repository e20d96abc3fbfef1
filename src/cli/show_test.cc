#include "cli/show.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdlib.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"

namespace yoke::cli {
namespace {

using gguf::ModelKind;
using gguf::Range;
using gguf::Summary;
using testing::HasSubstr;
using testing::Not;

Summary dense() {
  Summary summary;
  summary.architecture = "llama";
  summary.name = "SmolLM2 135M";
  summary.parameters = 134'515'008;
  summary.tensors = 272;
  summary.tensor_bytes = 96'578'304;
  summary.file_bytes = 98'362'432;
  summary.quantization = "Q4_1";
  summary.types = {{"Q4_1", 66'355'200, 210}, {"F32", 140'544, 1}};
  summary.file_type = "Q4_1";
  summary.context_length = 8192;
  summary.layers = 30;
  summary.embedding_length = 576;
  summary.heads = Range{9, 9};
  summary.kv_heads = Range{3, 3};
  summary.vocabulary = 49152;
  summary.tokenizer = "gpt2";
  summary.tokenizer_pre = "smollm";
  summary.chat_template = "{{ messages }}";
  return summary;
}

TEST(FormatSummary, ShowsADenseModel) {
  EXPECT_EQ(format_summary(dense(), "/m/smol.gguf", {}), R"(SmolLM2 135M
  File           /m/smol.gguf
  Architecture   llama
  Parameters     134.5 M
  Size           98.4 MB, 5.74 bits per weight
  Quantization   Q4_1
  Stored as      Q4_1 66.4 MB in 210 tensors, F32 140.5 KB in 1 tensor
  Context        8192 tokens
  Layers         30
  Embedding      576
  Heads          9; 3 for keys and values
  Tokenizer      gpt2, smollm, 49152 tokens
  Chat template  14 bytes; --template shows it
)");
}

TEST(FormatSummary, ShowsWhatIsSpecial) {
  Summary summary = dense();
  summary.parameters = 1'026'470'731'056;
  summary.parts = 8;
  summary.file_type = "Q2_K";
  summary.quantization = "IQ2_XS";
  summary.experts = 384;
  summary.experts_used = 8;
  summary.kv_lora_rank = 512;
  summary.sliding_window = 1024;
  summary.recurrent = true;
  summary.kv_heads = Range{0, 8};
  summary.more_templates = {"rag", "tool_use"};
  const std::string text = format_summary(summary, "k.gguf", {});
  for (const char* const said :
       {"1.03 T\n", "98.4 MB in 8 files, ", "IQ2_XS (the file says Q2_K)\n", "9; 0 to 8 for keys",
        "384, of which each token uses 8\n", "multi-head latent (MLA), rank 512\n",
        "  Sliding window 1024 tokens, in some", "  Recurrent ", "; others for rag, tool_use\n"}) {
    EXPECT_THAT(text, HasSubstr(said));
  }
}

TEST(FormatSummary, SaysWhatGoesWithAModelOrIsNoWholeOne) {
  Summary summary;
  summary.kind = ModelKind::kProjector;
  EXPECT_THAT(format_summary(summary, "f", {}), HasSubstr("  Kind           a multimodal proj"));
  EXPECT_THAT(format_summary(summary, "f", {}), Not(HasSubstr("Chat template")));
  summary.kind = ModelKind::kAdapter;
  EXPECT_THAT(format_summary(summary, "f", {}), HasSubstr("a LoRA adapter"));
  summary.kind = ModelKind::kPart;
  summary.part_number = 2;
  summary.parts_in_all = 3;
  EXPECT_THAT(format_summary(summary, "f", {}), HasSubstr("part 2 of 3 of a model"));
  EXPECT_EQ(summary_json(summary, "f").at("part"), 2);
  EXPECT_THAT(format_summary(Summary(), "f", {}), HasSubstr("Chat template  none\n"));
}

TEST(FormatSummary, CanNotDriveTheTerminal) {
  Summary summary = dense();
  summary.name = "evil\x1b[31m\nname";
  summary.architecture = "\x1b]0;title\x07llama";
  const std::string text = format_summary(summary, "f", {});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_THAT(text, testing::StartsWith("evil name\n"));
}

TEST(FormatSummary, WrapsAtTheTerminalsWidth) {
  const std::string text =
      format_summary(dense(), "f", {.tty = true, .styled = false, .width = 50});
  EXPECT_THAT(text, HasSubstr("  Stored as      Q4_1 66.4 MB in 210 tensors, F32\n"
                              "                 140.5 KB in 1 tensor\n"));
}

TEST(SummaryJson, HasEveryFieldAndNullForWhatIsNotThere) {
  const boost::json::object object = summary_json(dense(), "f");
  EXPECT_EQ(object.at("kind"), "model");
  EXPECT_EQ(object.at("parameters"), 134'515'008);
  EXPECT_EQ(object.at("types").at(0).at("bytes"), 66'355'200);
  EXPECT_EQ(object.at("heads").at("most"), 9);
  EXPECT_EQ(object.at("chat_template"), "{{ messages }}");
  EXPECT_TRUE(object.at("experts").is_null());
  EXPECT_TRUE(object.at("sliding_window").is_null());
  EXPECT_FALSE(object.contains("part"));
}

TEST(SummaryJson, IsUtf8WhateverTheFileHolds) {
  Summary summary;
  summary.name = "a\xff\xc3\xa9\xed\xa0\x80\xf0\x9f\x90\x82\xe2\x82";
  const std::string text = json_text(summary_json(summary, "f"));
  EXPECT_THAT(text, HasSubstr("\"name\":\"a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                              "\xf0\x9f\x90\x82\xef\xbf\xbd\xef\xbf\xbd\""));
}

gguf::Model two_tensors() {
  gguf::Model model;
  model.tensors.resize(2);
  model.tensors[0] = {.name = "token_embd.weight",
                      .dims = {576, 49152, 1, 1},
                      .dim_count = 2,
                      .type = 8,
                      .bytes = 30'081'024};
  model.tensors[1] = {.name = "norm\x1b[1m", .dims = {576, 1, 1, 1}, .dim_count = 1, .bytes = 2304};
  return model;
}

TEST(FormatTensors, ListsEach) {
  EXPECT_EQ(format_tensors(two_tensors(), {}),
            "TENSOR             TYPE  SHAPE           SIZE\n"
            "token_embd.weight  Q8_0  576 x 49152  30.1 MB\n"
            "norm               F32   576           2.3 KB\n");
}

TEST(TensorsJson, ListsEach) {
  const boost::json::array tensors = tensors_json(two_tensors());
  ASSERT_EQ(tensors.size(), 2);
  EXPECT_EQ(tensors[0].at("shape"), boost::json::array({576, 49152}));
  EXPECT_EQ(tensors[0].at("type"), "Q8_0");
  EXPECT_EQ(tensors[1].at("bytes"), 2304);
}

TEST(Show, SaysWhatIsNoModel) {
  std::string path = (std::filesystem::temp_directory_path() / "yoke-show-XXXXXX").string();
  const int file = ::mkstemp(path.data());
  ASSERT_GE(file, 0);
  ::close(file);
  std::ofstream(path) << "\x89PNG\r\n\x1a\n";
  const auto shown = show({.file = path});
  std::filesystem::remove(path);
  ASSERT_FALSE(shown);
  EXPECT_EQ(shown.error().code, gguf::kGgufInvalid);
  EXPECT_THAT(shown.error().message, HasSubstr("is a PNG image; a little-endian GGUF file"));
  EXPECT_EQ(show({.file = path}).error().code.name(), "model_file_missing");
}

}  // namespace
}  // namespace yoke::cli
