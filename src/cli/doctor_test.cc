#include "cli/doctor.h"

#include <gtest/gtest.h>

#include "cli/exit_code.h"

namespace yoke::cli {
namespace {

using yoke::doctor::Finding;
using yoke::doctor::Setting;
using yoke::doctor::Severity;

TEST(FormatFindings, ShowsATableAndWhatIsWrong) {
  Finding fine{.id = "swap", .title = "Swap", .found = "8 GiB"};
  Finding wrong{.id = "kernel-cwsr",
                .severity = Severity::kWarning,
                .title = "Kernel",
                .found = "6.17\x1b[31m"};
  wrong.wanted = "6.18.4";
  wrong.why = "ROCm #5616";
  wrong.fix = "update";
  wrong.reboot = true;
  wrong.settings = {{Setting::Kind::kModuleParameter, "amdgpu.cwsr_enable", "0"}};
  EXPECT_EQ(
      format_findings({fine, wrong}, {}),
      "STATE    CHECK   FOUND\n"
      "ok       Swap    8 GiB\n"
      "warning  Kernel  6.17\n"
      "\n"
      "warning: Kernel\n"
      "  found   6.17\n"
      "  wanted  6.18.4\n"
      "  why     ROCm #5616\n"
      "  fix     `sudo yoke doctor --fix`, or by hand: update. Needs a reboot.\n"
      "\n"
      "1 ok, 0 info, 1 warning, 0 blocking. `sudo yoke doctor --fix` sets 1 of them right.\n");
}

TEST(FormatFindings, WrapsToTheTerminal) {
  Finding finding{.id = "a", .severity = Severity::kInfo, .title = "T", .found = "f"};
  finding.why = "one two three four five six seven eight";
  const std::string text = format_findings({finding}, {.width = 30});
  EXPECT_NE(text.find("  why     one two three four\n          five six seven eight\n"),
            std::string::npos)
      << text;
}

TEST(Doctor, RefusesOptionsThatDontGoTogether) {
  const auto code = [](const DoctorOptions& options) { return doctor(options).error().code; };
  EXPECT_EQ(code({.fix = true, .undo = true}), kUsage);
  EXPECT_EQ(code({.report = true, .fix = true}), kUsage);
  EXPECT_EQ(code({.json = true, .fix = true}), kUsage);
  EXPECT_EQ(code({.yes = true}), kUsage);
  EXPECT_EQ(code({.force = true}), kUsage);
  EXPECT_EQ(code({.gpu_memory = "1GiB"}), kUsage);
  EXPECT_EQ(code({.root = "/no/such/root"}), kInvalidArgument);
  EXPECT_EQ(code({.root = "/no/such/root", .fix = true, .gpu_memory = "lots"}), kInvalidArgument);
}

}  // namespace
}  // namespace yoke::cli
