// The machine apart from its GPU: swap, huge pages, the processor's clock.
#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "doctor/check_subjects.h"

namespace yoke::doctor {
namespace {

constexpr std::string_view kHugePagesFile = "/sys/kernel/mm/transparent_hugepage/enabled";
constexpr std::string_view kGovernorFile =
    "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor";

Finding swap(const CheckInput& input) {
  const std::vector<Swap>& swaps = input.state.swaps;
  Finding finding{.id = "swap", .title = "Swap"};
  if (swaps.empty()) {
    finding.severity = Severity::kInfo;
    finding.found = "none";
    finding.wanted = "a few GiB, on disk or as zram";
    finding.why =
        "Without swap the kernel can only kill a process when memory runs out, and an engine is "
        "the "
        "largest (docs.kernel.org, memory management concepts: OOM killer)";
    finding.fix = "Set up zram (zram-generator) or a swap file";
    return finding;
  }
  std::uint64_t total = 0;
  for (const Swap& entry : swaps) total += std::min(entry.size, kUnlimited - total);
  const bool compressed = std::all_of(swaps.begin(), swaps.end(), [](const Swap& entry) {
    return entry.device.starts_with("/dev/zram");
  });
  const std::uint64_t swappiness = input.state.swappiness.value_or(0);
  finding.found = fmt::format("{}{}, vm.swappiness {}", format_memory(total),
                              compressed ? " zram" : " on disk", swappiness);
  constexpr std::uint64_t kMost = 10;
  if (compressed || swappiness <= kMost) return finding;
  finding.severity = Severity::kInfo;
  finding.wanted = "vm.swappiness 10 or less with swap on disk";
  finding.why =
      "The kernel otherwise moves a model that was idle for a while to the disk in favour of the "
      "file cache; the next answer waits for it (docs.kernel.org, sysctl vm: swappiness)";
  finding.fix = "sudo sysctl vm.swappiness=10, and the same in a file in /etc/sysctl.d";
  finding.settings = {{Setting::Kind::kSysctl, "vm.swappiness", "10"}};
  return finding;
}

Finding huge_pages(const CheckInput& input) {
  Finding finding{
      .id = "huge-pages", .title = "Transparent huge pages", .found = input.state.huge_pages};
  if (input.state.huge_pages != "never") return finding;
  finding.severity = Severity::kInfo;
  finding.wanted = "madvise or always";
  finding.why =
      "With pages of 4 KiB alone, walking through gigabytes of weights costs the processor and the "
      "IOMMU more look-ups (docs.kernel.org, Transparent Hugepage Support)";
  finding.fix = fmt::format("echo madvise | sudo tee {}", kHugePagesFile);
  finding.settings = {{Setting::Kind::kTmpfile, std::string(kHugePagesFile), "madvise"}};
  return finding;
}

// In these drivers' active mode "powersave" is the normal choice: the hardware picks the clock.
bool picks_clock_itself(std::string_view driver) {
  return driver == "amd-pstate-epp" || driver == "intel_pstate";
}

Finding governor(const CheckInput& input) {
  const SystemState& state = input.state;
  const std::string& governor = input.host().cpu.governor;
  Finding finding{.id = "cpu-governor",
                  .title = "Clock of the processor (governor)",
                  .found = state.frequency_driver.empty()
                               ? governor
                               : fmt::format("{} ({})", governor, state.frequency_driver)};
  finding.fix =
      "sudo cpupower frequency-set -g performance; or tuned-adm profile "
      "accelerator-performance";
  if (governor == "powersave" && !picks_clock_itself(state.frequency_driver)) {
    finding.severity = Severity::kWarning;
    finding.wanted = "performance or schedutil";
    finding.why =
        "This governor keeps the processor at its lowest clock (docs.kernel.org, CPU Performance "
        "Scaling)";
    finding.settings = {{Setting::Kind::kTmpfile, std::string(kGovernorFile), "performance"}};
  } else if (governor == "powersave" &&
             (state.energy_preference == "power" || state.energy_preference == "balance_power")) {
    finding.severity = Severity::kInfo;
    finding.found += fmt::format(", energy preference {}", state.energy_preference);
    finding.wanted = "performance";
    finding.why =
        "The processor prefers saving energy to speed (docs.kernel.org, amd-pstate and "
        "intel_pstate: "
        "energy performance preference); tuned's accelerator-performance gave 5 to 8 % on Strix "
        "Halo";
    finding.settings = {{Setting::Kind::kTmpfile, std::string(kGovernorFile), "performance"}};
  } else {
    finding.fix.clear();
  }
  return finding;
}

}  // namespace

void check_host(const CheckInput& input, std::vector<Finding>& findings) {
  findings.push_back(swap(input));
  if (!input.state.huge_pages.empty()) findings.push_back(huge_pages(input));
  if (!input.host().cpu.governor.empty()) findings.push_back(governor(input));
}

}  // namespace yoke::doctor
