#include "cli/plan.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/exit_code.h"
#include "gguf/test_support.h"
#include "planner/model_shape.h"

namespace yoke::cli {
namespace {

using testing::HasSubstr;

constexpr const char* kMachine = "[[machine]]\nname = \"box\"\nmemory = \"1GiB\"\n";

class PlanCommand : public testing::Test {
 protected:
  // Of a model file and a hardware file, so that this machine does not matter.
  PlanOptions options_for(const std::string& content, const std::string& name = "m.gguf") const {
    PlanOptions options;
    options.model = scratch_.write(name, content);
    options.hardware_file = scratch_.write("m.toml", kMachine);
    options.model_dir = scratch_.path();
    return options;
  }
  static Error error_of(const PlanOptions& options) {
    testing::internal::CaptureStdout();
    const auto planned = plan(options);
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    return planned ? Error{kInternal, "none"} : planned.error();
  }
  static std::string output_of(const PlanOptions& options) {
    testing::internal::CaptureStdout();
    const auto planned = plan(options);
    EXPECT_TRUE(planned) << planned.error().text();
    return testing::internal::GetCapturedStdout();
  }

  gguf::ScratchDir scratch_;
};

TEST_F(PlanCommand, SaysWhatIsNoModel) {
  const Error png = error_of(options_for("\x89PNG\r\n\x1a\n and more"));
  EXPECT_EQ(png.code.name(), "gguf_invalid");
  EXPECT_THAT(png.message, HasSubstr("is a PNG image; a little-endian GGUF file"));
  const std::string good = gguf::small_model().file();
  EXPECT_EQ(error_of(options_for(good.substr(0, good.size() / 2))).code.name(), "gguf_truncated");
  EXPECT_EQ(
      error_of(options_for(std::string("GGUF\0\0\0\3", 8) + std::string(64, '\0'))).code.name(),
      "gguf_invalid");
  EXPECT_THAT(error_of(options_for("")).message, HasSubstr("is empty"));
}

TEST_F(PlanCommand, SaysThatThereIsNoSuchModel) {
  PlanOptions options = options_for("");
  options.model = scratch_.path() / "missing.gguf";
  EXPECT_EQ(error_of(options).code.name(), "model_file_missing");
  options.model = "no-such-model";
  EXPECT_EQ(error_of(options).code.name(), "model_unknown");
}

TEST_F(PlanCommand, RefusesWrongOptions) {
  const PlanOptions good = options_for(gguf::small_model().file());
  const auto refused = [&](auto change) {
    PlanOptions options = good;
    change(options);
    const Error error = error_of(options);
    EXPECT_EQ(exit_code(error), error.code == planner::kModelUnplannable ? 1 : kExitUsage);
    return error.message;
  };
  EXPECT_THAT(refused([](PlanOptions& o) { o.n_ctx = -1; }), HasSubstr("--ctx -1 is not between"));
  EXPECT_THAT(refused([](PlanOptions& o) { o.parallel = 257; }), HasSubstr("--parallel 257"));
  EXPECT_THAT(refused([](PlanOptions& o) { o.n_ubatch = 0; }), HasSubstr("--ubatch 0"));
  EXPECT_THAT(refused([](PlanOptions& o) { o.n_batch = 1 << 30; }), HasSubstr("--batch"));
  EXPECT_THAT(refused([](PlanOptions& o) { o.gpu_layers = -2; }), HasSubstr("--gpu-layers -2"));
  EXPECT_THAT(refused([](PlanOptions& o) { o.tensor_split = {1, -1}; }),
              HasSubstr("--tensor-split"));
  EXPECT_THAT(refused([](PlanOptions& o) { o.backend = "metal"; }),
              HasSubstr("--backend 'metal' is none of vulkan, rocm, cuda, cpu."));
  EXPECT_THAT(refused([](PlanOptions& o) { o.flash_attention = "maybe"; }),
              HasSubstr("--flash-attn 'maybe' is none of on, off, auto."));
  EXPECT_THAT(refused([](PlanOptions& o) {
                o.flash_attention = "off";
                o.cache_type_v = "q8_0";
              }),
              HasSubstr("Values in q8_0 need flash attention"));
}

TEST_F(PlanCommand, ReportsMistakesInTheHardwareFile) {
  PlanOptions options = options_for(gguf::small_model().file());
  options.hardware_file = scratch_.write("bad.toml", "[[machine]]\nnam = \"a\"\n");
  EXPECT_THAT(error_of(options).message, HasSubstr("bad.toml:2: unknown key 'nam'"));
  options.hardware_file = scratch_.path() / "missing.toml";
  EXPECT_EQ(error_of(options).code.name(), "config_not_found");
}

TEST_F(PlanCommand, LeavesAHuggingFaceModelToVllm) {
  PlanOptions options = options_for("");
  const std::filesystem::path directory = scratch_.path() / "hf";
  std::filesystem::create_directory(directory);
  std::ofstream(directory / "config.json") << "{}";
  std::ofstream(directory / "model.safetensors") << std::string(1'500'000, 'w');
  options.model = directory;
  EXPECT_THAT(output_of(options), HasSubstr("a HuggingFace model, 1.5 MB of weights.\nvLLM plans "
                                            "its own memory"));
  options.json = true;
  EXPECT_THAT(output_of(options), HasSubstr("\"weights\": 1500000"));
  std::filesystem::remove(directory / "config.json");
  EXPECT_EQ(error_of(options).code.name(), "model_file_invalid");
}

}  // namespace
}  // namespace yoke::cli
