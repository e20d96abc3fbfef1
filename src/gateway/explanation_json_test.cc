#include "gateway/explanation_json.h"

#include <gtest/gtest.h>

namespace yoke::gateway {
namespace {

using namespace std::chrono_literals;
using supervisor::Explanation;

constexpr store::Time kNow{1'795'358'876'000ms};

store::Case a_case() {
  return {"chat", "chat.gguf 12 34", "vulkan", "llama.cpp 0.5.0", "RADV Mesa 25.2.1"};
}

store::Quarantine a_quarantine() {
  return {a_case(), "gpu_hang", "It \"hung\".", kNow - 1min, kNow + 90s + 500ms, 2};
}

constexpr std::string_view kQuarantine =
    R"({"model":"chat","backend":"vulkan","engine":"llama.cpp 0.5.0","driver":"RADV Mesa 25.2.1",)"
    R"("failure":"gpu_hang","message":"It \"hung\".","since_ms":1795358816000,)"
    R"("until_ms":1795358966500,"remaining_s":90.5,"count":2})";

TEST(QuarantinesJson, SaysHowLongTheyLast) {
  EXPECT_EQ(quarantines_json({}, kNow), R"({"quarantines":[]})");
  EXPECT_EQ(quarantines_json({a_quarantine()}, kNow),
            R"({"quarantines":[)" + std::string(kQuarantine) + "]}");
}

TEST(QuarantinesJson, OneThatIsOverHasNoTimeLeft) {
  EXPECT_NE(quarantines_json({a_quarantine()}, kNow + 1h).find(R"("remaining_s":0,)"),
            std::string::npos);
}

TEST(ExplanationJson, SaysEverything) {
  Explanation explanation;
  explanation.model = "chat";
  explanation.file = "/models/chat.gguf";
  explanation.state = "ready";
  explanation.order = "GPUs first.";
  explanation.candidates.push_back(
      {"vulkan", "llama.cpp 0.5.0", "RADV Mesa 25.2.1", false, a_quarantine(), {}});
  explanation.candidates.push_back(
      {"cpu", "llama.cpp 0.5.0", "", true, {}, store::CheckRecord{a_case(), true, 0.0125, kNow}});
  explanation.ruled_out.push_back({"rocm", "No AMD GPU."});
  explanation.decisions.push_back(
      {"n_ubatch", "512", engines::DecidedBy::kKnownFact, "It is safer.", "llama.cpp #21724"});
  explanation.notes = {"--foo is unknown."};
  explanation.command = {"/bin/llama-server", "--alias", "a b"};
  explanation.failures.push_back({a_case(), "crash", "It crashed.", "GGML_ASSERT", kNow});
  explanation.multi_node = {"vllm serve"};
  EXPECT_EQ(
      explanation_json(explanation, kNow),
      R"({"model":"chat","file":"/models/chat.gguf","state":"ready","order":"GPUs first.",)"
      R"("candidates":[{"backend":"vulkan","engine":"llama.cpp 0.5.0",)"
      R"("driver":"RADV Mesa 25.2.1","current":false,"quarantine":)" +
          std::string(kQuarantine) +
          R"(,"check":null},)"
          R"({"backend":"cpu","engine":"llama.cpp 0.5.0","driver":"","current":true,)"
          R"("quarantine":null,"check":{"agreed":true,"distance":0.0125,"time_ms":1795358876000}}],)"
          R"("ruled_out":[{"backend":"rocm","why":"No AMD GPU."}],)"
          R"("decisions":[{"setting":"n_ubatch","value":"512","by":"known_fact",)"
          R"("why":"It is safer.","source":"llama.cpp #21724"}],)"
          R"("notes":["--foo is unknown."],"command":["/bin/llama-server","--alias","a b"],)"
          R"("failures":[{"model":"chat","backend":"vulkan","engine":"llama.cpp 0.5.0",)"
          R"("driver":"RADV Mesa 25.2.1","failure":"crash","message":"It crashed.",)"
          R"("evidence":"GGML_ASSERT","time_ms":1795358876000}],"multi_node":["vllm serve"]})");
}

}  // namespace
}  // namespace yoke::gateway
