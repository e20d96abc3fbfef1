#include "cli/plan_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using planner::Plan;
using planner::Share;
using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// Two machines with unified memory; the first runs the engine.
PlanReport two_machines() {
  PlanReport report;
  report.model = "/m/big.gguf";
  report.hardware = "two.toml";
  report.summary.name = "Big";
  report.summary.architecture = "deepseek2";
  report.summary.parameters = 1'030'000'000'000;
  report.summary.file_bytes = 374'764'330'144;
  report.summary.parts = 8;
  report.summary.file_type = "Q2_K";
  report.summary.context_length = 262144;
  report.options.sequences = 4;
  report.inventory.pools = {{"a: unified memory", "a", 120 * kGiB, 120 * kGiB, 2 * kGiB},
                            {"b: unified memory", "b", 120 * kGiB, 100 * kGiB, 2 * kGiB}};
  report.inventory.devices = {{"a: CPU", "cpu", 0, {}},
                              {"b: Radeon", "vulkan", 1, {}, true},
                              {"a: Radeon", "vulkan", 0, 90 * kGiB}};
  Plan& plan = report.plan;
  plan.fits = true;
  plan.why = "All 61 layers and the output on 2 GPUs.";
  plan.gpu_layers = 62;
  plan.shares = {{0, 0, 0, false, {kGiB, 0, 0, 512 * kMiB, 2 * kMiB}},
                 {1, 0, 31, false, {80 * kGiB, 3 * kGiB, 0, kGiB, 0}},
                 {2, 31, 30, true, {82 * kGiB, 3 * kGiB, 0, kGiB, 0}}};
  plan.pools = {{0, 87 * kGiB + 514 * kMiB, 118 * kGiB}, {1, 84 * kGiB, 98 * kGiB}};
  report.longest_context = 16384;
  report.other_attention = plan;
  report.other_attention->shares[1].memory.compute += 2 * kGiB;
  report.other_attention->shares[2].memory.compute += kGiB;
  report.notes = {"A note."};
  return report;
}

TEST(FormatPlan, ShowsWhatLiesWhere) {
  EXPECT_EQ(format_plan(two_machines(), {}),
            R"(Big: deepseek2, 1.03 T parameters, Q2_K, 374.8 GB in 8 files
It fits. All 61 layers and the output on 2 GPUs.

DEVICE (GiB)  LAYERS       SUM  USABLE  WEIGHTS    KV  COMPUTE  FA OFF
a: CPU        -           1.50  118.00     1.00  0.00     0.50   +0.00
b: Radeon     0-30       84.00   98.00    80.00  3.00     1.00   +2.00
a: Radeon     31-60+out  86.00   90.00    82.00  3.00     1.00   +1.00

MEMORY (GiB)       PLANNED  USABLE   LEFT  RESERVED  IN USE
a: unified memory    87.50  118.00  30.50      2.00    0.00
b: unified memory    84.00   98.00  14.00      2.00   20.00

  Planned for      two.toml
  Options          context of 8192 tokens, shared by 4 requests; flash attention on; keys and values in f16; batches of 512
  Longest context  16384 tokens
  Flash attention  off would take 3 GiB more, as the last column shows. It would still fit.
  To place it so   n_gpu_layers = 62, tensor_split = [31, 31]

- A note.
)");
}

TEST(FormatPlan, SaysWhatEarlierPromptsTakeBesides) {
  PlanReport report = two_machines();
  report.cache_ram = 8 * kGiB;
  EXPECT_THAT(format_plan(report, {}),
              HasSubstr("  Earlier prompts  up to 8 GiB more of a: unified memory as it serves "
                        "(cache_ram)\n"));
  EXPECT_EQ(plan_json(report).at("cache_ram").to_number<std::uint64_t>(), 8 * kGiB);
  report.cache_ram = 31 * kGiB;
  EXPECT_THAT(format_plan(report, {}), HasSubstr("only 30.5 GiB are left, so `yoke serve` does not "
                                                 "load it: set a smaller cache_ram\n"));
  report.cache_ram = 0;
  EXPECT_THAT(format_plan(report, {}), Not(HasSubstr("Earlier prompts")));
}

TEST(FormatPlan, SaysWhatIsMissingAndWhatHelps) {
  PlanReport report = two_machines();
  report.plan.fits = false;
  report.plan.missing = 5 * kGiB;
  report.plan.why = "90 GiB are needed in b, where 85 GiB can be used.";
  report.plan.pools[1] = {1, 90 * kGiB, 85 * kGiB};
  report.longest_context.reset();
  report.remedies.remedies = {{"--cache-type-k q8_0", {}}, {"--ctx 4096", {}}};
  const std::string text = format_plan(report, {});
  EXPECT_THAT(text, HasSubstr("It does not fit: 5 GiB are missing. 90 GiB are needed in b"));
  EXPECT_THAT(text, HasSubstr("  -5.00 "));
  EXPECT_THAT(text, HasSubstr("  Longest context  none: not even 256 tokens\n"));
  EXPECT_THAT(text, HasSubstr("  To make it fit   --cache-type-k q8_0, or --ctx 4096\n"));
  EXPECT_THAT(text, Not(HasSubstr("To place it so")));
  report.remedies = {{}, 3 * kGiB};
  EXPECT_THAT(format_plan(report, {}), HasSubstr("with 256 tokens of context 3 GiB are missing"));
}

TEST(FormatPlan, SaysWhyFlashAttentionCanNotChange) {
  PlanReport report = two_machines();
  report.other_attention.reset();
  report.other_refused = "The engine refuses that.";
  const std::string text = format_plan(report, {});
  EXPECT_THAT(text, HasSubstr("  Flash attention  off: The engine refuses that.\n"));
  EXPECT_THAT(text, Not(HasSubstr("FA OFF")));
}

TEST(FormatPlan, ShowsSmallModelsInMebibytes) {
  PlanReport report = two_machines();
  report.inventory.devices.resize(1);
  report.inventory.pools.resize(1);
  report.options.flash_attention = false;
  report.options.unified_cache = false;
  report.options.sequences = 2;
  report.plan.gpu_layers = 0;
  report.plan.shares = {{0, 0, 30, true, {92 * kMiB, 45 * kMiB, 7 * kMiB, kMiB, kMiB / 2}}};
  report.plan.pools = {{0, 146 * kMiB, 118 * kGiB}};
  report.longest_context = 262144;
  report.other_attention = report.plan;
  const std::string text = format_plan(report, {});
  EXPECT_THAT(text, HasSubstr("DEVICE (MiB)  LAYERS      SUM    USABLE  WEIGHTS    KV  STATE  "
                              "COMPUTE  OUTPUT  FA ON\n"
                              "a: CPU        0-29+out  145.5  120832.0     92.0  45.0    7.0      "
                              "1.0     0.5   +0.0\n"));
  EXPECT_THAT(text, HasSubstr("262144 tokens, as long as the model was trained for\n"));
  EXPECT_THAT(text, HasSubstr("8192 tokens, 4096 for each of 2 requests; flash attention off"));
  EXPECT_THAT(text, HasSubstr("on would take the same memory. It would still fit.\n"));
}

TEST(FormatPlan, FitsATerminal) {
  const std::string text = format_plan(two_machines(), {.tty = true, .styled = false, .width = 60});
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = text.find('\n', begin);
    EXPECT_LE(display_width(text.substr(begin, end - begin)), 60)
        << text.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST(FormatPlan, CanNotDriveTheTerminal) {
  PlanReport report = two_machines();
  report.summary.name = "evil\x1b[31m\nname";
  report.inventory.devices[1].name = "b\x1b]0;t\x07";
  report.notes = {"\x1b[2J"};
  EXPECT_EQ(format_plan(report, {}).find('\x1b'), std::string::npos);
}

TEST(PlanJson, HasEveryKey) {
  const boost::json::object object = plan_json(two_machines());
  EXPECT_EQ(object.at("model").at("name"), "Big");
  EXPECT_EQ(object.at("model").at("file_bytes"), 374'764'330'144);
  EXPECT_EQ(object.at("format"), "gguf");
  EXPECT_EQ(object.at("fits"), true);
  EXPECT_EQ(object.at("gpu_layers"), 62);
  EXPECT_EQ(object.at("tensor_split"), boost::json::array({31, 31}));
  EXPECT_EQ(object.at("longest_context"), 16384);
  const boost::json::value& cpu = object.at("devices").at(0);
  EXPECT_TRUE(cpu.at("layers").is_null());
  EXPECT_EQ(cpu.at("output"), false);
  EXPECT_EQ(cpu.at("output_buffer"), 2 * kMiB);
  const boost::json::value& last = object.at("devices").at(2);
  EXPECT_EQ(last.at("name"), "a: Radeon");
  EXPECT_EQ(last.at("backend"), "vulkan");
  EXPECT_EQ(last.at("remote"), false);
  EXPECT_EQ(last.at("layers"), boost::json::array({31, 60}));
  EXPECT_EQ(last.at("output"), true);
  EXPECT_EQ(last.at("weights"), 82 * kGiB);
  EXPECT_EQ(last.at("kv"), 3 * kGiB);
  EXPECT_EQ(last.at("state"), 0);
  EXPECT_EQ(last.at("compute"), kGiB);
  EXPECT_EQ(last.at("total"), 86 * kGiB);
  EXPECT_EQ(last.at("usable"), 90 * kGiB);
  EXPECT_EQ(object.at("memory").at(1).at("left"), 14 * kGiB);
  EXPECT_EQ(object.at("memory").at(1).at("free"), 100 * kGiB);
  EXPECT_EQ(object.at("options").at("flash_attention"), true);
  EXPECT_EQ(object.at("options").at("cache_type_v"), "f16");
  EXPECT_EQ(object.at("other_attention").at("flash_attention"), false);
  EXPECT_EQ(object.at("other_attention").at("devices").at(1).at("difference"), 2 * kGiB);
  EXPECT_EQ(object.at("remedies"), boost::json::array());
  EXPECT_EQ(object.at("notes"), boost::json::array({"A note."}));
}

TEST(PlanJson, SaysWhatDoesNotFit) {
  PlanReport report = two_machines();
  report.plan.fits = false;
  report.plan.missing = 5;
  report.longest_context.reset();
  report.other_attention.reset();
  report.other_refused = "No.";
  report.remedies.remedies = {{"--ctx 4096", {.n_ctx = 4096}}};
  const boost::json::object object = plan_json(report);
  EXPECT_EQ(object.at("fits"), false);
  EXPECT_EQ(object.at("missing"), 5);
  EXPECT_TRUE(object.at("longest_context").is_null());
  EXPECT_EQ(object.at("other_attention").at("refused"), "No.");
  EXPECT_EQ(object.at("remedies").at(0).at("options").at("n_ctx"), 4096);
}

}  // namespace
}  // namespace yoke::cli
