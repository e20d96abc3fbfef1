#include "gguf/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/tensor_type.h"
#include "gguf/test_support.h"

namespace yoke::gguf {
namespace {

using testing::ElementsAre;

Summary summary_of(const Writer& writer) {
  StringSource source(writer.file());
  auto header = read_header(source);
  if (!header) throw std::runtime_error(header.error().text());
  ModelAssembly assembly;
  if (const auto added = assembly.add(std::move(*header)); !added) {
    throw std::runtime_error(added.error().text());
  }
  return summarize(assembly.finish().value());
}

TEST(Summarize, TellsOfADenseModel) {
  const Summary summary = summary_of(small_model());
  EXPECT_EQ(summary.kind, ModelKind::kModel);
  EXPECT_EQ(summary.architecture, "llama");
  EXPECT_EQ(summary.name, "Tiny");
  EXPECT_EQ(summary.parameters, 768 + 256);
  EXPECT_EQ(summary.tensors, 2);
  EXPECT_EQ(summary.tensor_bytes, 432 + 1024);
  EXPECT_EQ(summary.file_bytes, small_model().file().size());
  EXPECT_EQ(summary.file_type, "Q4_K_M");
  EXPECT_EQ(summary.context_length, 4096);
  EXPECT_EQ(summary.layers, 2);
  EXPECT_EQ(summary.embedding_length, 256);
  ASSERT_TRUE(summary.heads && summary.kv_heads);
  EXPECT_EQ(summary.heads->most, 8);
  EXPECT_EQ(summary.kv_heads->least, 2);
  EXPECT_FALSE(summary.experts || summary.kv_lora_rank || summary.sliding_window);
  EXPECT_FALSE(summary.recurrent);
  EXPECT_EQ(summary.vocabulary, 3);
  EXPECT_EQ(summary.tokenizer, "gpt2");
  EXPECT_EQ(summary.tokenizer_pre, "tiny");
  EXPECT_EQ(summary.chat_template, "{{ messages }}");
  EXPECT_THAT(summary.more_templates, ElementsAre());
}

TEST(Summarize, NamesTheTypeOfMostBytes) {
  Writer writer;
  writer.tensor("a", {256, 64}, 12, 64 * 144)
      .tensor("b", {256, 8}, 12, 8 * 144)
      .tensor("c", {256, 16}, 14, 16 * 210)
      .tensor("d", {256}, 0, 1024)
      .tensor("e", {9}, 99, 32);
  const Summary summary = summary_of(writer);
  EXPECT_EQ(summary.quantization, "Q4_K");
  ASSERT_EQ(summary.types.size(), 4);
  EXPECT_EQ(summary.types[0].bytes, 72 * 144);
  EXPECT_EQ(summary.types[0].tensors, 2);
  EXPECT_EQ(summary.types[1].type, "Q6_K");
  EXPECT_EQ(summary.types[2].type, "F32");
  EXPECT_EQ(summary.types[3].type, "type 99");
}

TEST(Summarize, TellsOfExpertsAndLatentAttention) {
  Writer writer;
  writer.add("general.architecture", "deepseek2")
      .add<std::uint32_t>("deepseek2.expert_count", 384)
      .add<std::uint32_t>("deepseek2.expert_used_count", 8)
      .add<std::uint32_t>("deepseek2.attention.kv_lora_rank", 512);
  const Summary summary = summary_of(writer);
  EXPECT_EQ(summary.experts, 384);
  EXPECT_EQ(summary.experts_used, 8);
  EXPECT_EQ(summary.kv_lora_rank, 512);
}

TEST(Summarize, TellsOfWindowsAndStates) {
  Writer gemma;
  gemma.add("general.architecture", "gemma3")
      .add<std::uint32_t>("gemma3.attention.sliding_window", 1024);
  EXPECT_EQ(summary_of(gemma).sliding_window, 1024);
  Writer hybrid;
  hybrid.add("general.architecture", "jamba")
      .add<std::uint32_t>("jamba.ssm.state_size", 16)
      .add<std::uint32_t>("jamba.attention.head_count", 32)
      .add("jamba.attention.head_count_kv", std::vector<std::int32_t>{0, 0, 8, 0});
  const Summary summary = summary_of(hybrid);
  EXPECT_TRUE(summary.recurrent);
  ASSERT_TRUE(summary.kv_heads);
  EXPECT_EQ(summary.kv_heads->least, 0);
  EXPECT_EQ(summary.kv_heads->most, 8);
}

TEST(Summarize, TakesTheHeadsForKvHeadsThatAreNotThere) {
  Writer writer;
  writer.add("general.architecture", "bert").add<std::uint32_t>("bert.attention.head_count", 12);
  ASSERT_TRUE(summary_of(writer).kv_heads);
  EXPECT_EQ(summary_of(writer).kv_heads->most, 12);
}

TEST(Summarize, KnowsWhatGoesWithAModel) {
  EXPECT_EQ(summary_of(Writer().add("general.architecture", "clip")).kind, ModelKind::kProjector);
  EXPECT_EQ(summary_of(Writer().add("general.type", "mmproj")).kind, ModelKind::kProjector);
  EXPECT_EQ(summary_of(Writer().add("general.type", "adapter")).kind, ModelKind::kAdapter);
  const Summary part =
      summary_of(Writer().add<std::uint16_t>("split.no", 1).add<std::uint16_t>("split.count", 3));
  EXPECT_EQ(part.kind, ModelKind::kPart);
  EXPECT_EQ(part.part_number, 2);
  EXPECT_EQ(part.parts_in_all, 3);
}

TEST(Summarize, ListsFurtherTemplates) {
  Writer writer;
  writer.add("tokenizer.chat_template", "default")
      .add("tokenizer.chat_template.rag", "r")
      .add("tokenizer.chat_template.tool_use", "t")
      .add("tokenizer.chat_templates", std::vector<std::string>{"rag", "tool_use"});
  EXPECT_THAT(summary_of(writer).more_templates, ElementsAre("rag", "tool_use"));
}

TEST(Summarize, SaysNothingOfWhatIsNotThere) {
  const Summary summary = summary_of(Writer());
  EXPECT_EQ(summary.architecture, "");
  EXPECT_EQ(summary.quantization, "");
  EXPECT_FALSE(summary.file_type || summary.context_length || summary.layers || summary.heads ||
               summary.vocabulary);
}

TEST(TensorTypes, AreFoundByTheirIds) {
  ASSERT_NE(find_tensor_type(12), nullptr);
  EXPECT_EQ(find_tensor_type(12)->block_bytes, 144);
  ASSERT_NE(find_tensor_type(42), nullptr);
  EXPECT_EQ(find_tensor_type(42)->name, std::string("Q2_0"));
  for (const std::uint32_t none : {4u, 5u, 31u, 36u, 43u, 4294967295u}) {
    EXPECT_EQ(find_tensor_type(none), nullptr) << none;
  }
  EXPECT_EQ(tensor_type_name(39), "MXFP4");
  EXPECT_EQ(tensor_type_name(31), "type 31");
  EXPECT_EQ(file_type_name(7), "Q8_0");
  EXPECT_EQ(file_type_name(4), "file type 4");
}

}  // namespace
}  // namespace yoke::gguf
