// Unified memory of an AMD APU: what the GPU may map, what the firmware set aside.
#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "doctor/check_subjects.h"
#include "doctor/gpu_memory.h"
#include "doctor/own_files.h"

namespace yoke::doctor {
namespace {

using hardware::Device;

constexpr std::string_view kFormulaSource =
    "The unit is pages of 4 KiB, so GiB x 262144 (Linux source, ttm_tt.c; AMD's tool amd-ttm "
    "computes the same)";

bool has_discrete_gpu(const hardware::Machine& machine) {
  return std::any_of(machine.devices.begin(), machine.devices.end(), [](const Device& device) {
    const bool integrated = device.integrated && device.integrated->value;
    const bool known =
        device.vendor == hardware::Vendor::kAmd || device.vendor == hardware::Vendor::kNvidia;
    return known && !device.software && !integrated;
  });
}

// Then the GPU's memory is the carve-out, and the limit matters once that is gone.
bool has_large_carve_out(const Device& apu) { return apu.memory.carve_out.value_or(0) > 4 * kGib; }

std::string pages_text(std::uint64_t pages) {
  return fmt::format("{} pages = {}", pages, format_memory(pages * kTtmPage));
}

Finding pages_limit(const CheckInput& input, const Device& apu, std::uint64_t pages) {
  const std::uint64_t limit = pages * kTtmPage;
  const std::uint64_t ram = input.host().memory.total;
  const std::string advice = format_memory(recommended_gpu_memory(ram));
  const std::string_view module = input.state.amdgpu.packaged_ttm ? "amdttm" : "ttm";
  Finding finding{.id = "ttm-pages-limit",
                  .title = fmt::format("Memory that the GPU may map ({}.pages_limit)", module),
                  .found = fmt::format("{} of {}", pages_text(pages), format_memory(ram)),
                  .reboot = true};
  const std::string command =
      fmt::format("sudo yoke doctor --fix --gpu-memory {}GiB", recommended_gpu_memory(ram) / kGib);
  const auto meant = meant_by_common_mistake(pages);
  const std::uint64_t gtt = apu.memory.gtt.value_or(limit);
  const bool gttsize_set = input.state.amdgpu.gttsize.value_or(-1) != -1;
  if (ram > 0 && limit > ram - std::min(ram, host_reserve(ram))) {
    finding.severity = Severity::kWarning;
    finding.wanted =
        fmt::format("at most {}", format_memory(ram - std::min(ram, host_reserve(ram))));
    finding.why =
        "What the GPU maps is taken from the system's own memory; without a reserve the kernel "
        "kills processes when a large model is loaded (ROCm #6004: 132 GiB were promised on a "
        "128 GB machine)";
    finding.fix = command;
  } else if (gtt < limit && !gttsize_set) {
    finding.severity = Severity::kWarning;
    finding.found += fmt::format(", but GTT has {}", format_memory(gtt));
    finding.wanted = fmt::format("GTT of {}", format_memory(limit));
    finding.why =
        "The limit can be raised at any time, but the driver sizes GTT when it starts (amdgpu "
        "source, amdgpu_ttm_init)";
    finding.fix = fmt::format("Write it to a file with `{}`, then reboot", command);
  } else if (meant) {
    finding.severity = Severity::kInfo;
    finding.wanted = fmt::format("{} pages, if {} GiB were meant", *meant * kPagesPerGib, *meant);
    finding.why = fmt::format(
        "This number comes from a formula that many guides repeat, GB x 1024 x 1024 / 4.096. {}",
        kFormulaSource);
    finding.fix = fmt::format("sudo yoke doctor --fix --gpu-memory {}GiB", *meant);
  } else if (limit < ram / 4 * 3 && !has_large_carve_out(apu)) {
    finding.severity = has_discrete_gpu(input.machine) ? Severity::kInfo : Severity::kWarning;
    finding.wanted = fmt::format("{} on a machine that mostly serves models", advice);
    finding.why = fmt::format(
        "The kernel's default is half of the memory; a model that needs more falls back to the "
        "processor or fails. {}",
        kFormulaSource);
    finding.fix = command;
  }
  return finding;
}

// amdgpu.gttsize, which overrides what TTM says.
Finding gtt_size(const CheckInput& input) {
  const std::int64_t mib = input.state.amdgpu.gttsize.value_or(-1);
  Finding finding{.id = "amdgpu-gttsize",
                  .title = "GTT size (amdgpu.gttsize)",
                  .found = "not set",
                  .reboot = true};
  if (mib == -1) return finding;
  const std::uint64_t size = static_cast<std::uint64_t>(std::max<std::int64_t>(mib, 0)) << 20;
  const std::string where = where_set(input, "amdgpu", "gttsize");
  finding.severity = Severity::kWarning;
  finding.found =
      fmt::format("{} MiB = {}{}", mib, format_memory(size), where.empty() ? "" : ", set " + where);
  const auto pages = input.state.amdgpu.pages_limit;
  if (pages && *pages * kTtmPage != size) {
    finding.found += fmt::format("; TTM's limit is {}", format_memory(*pages * kTtmPage));
  }
  finding.wanted = "not set; ttm.pages_limit in its place";
  finding.why =
      "Deprecated since January 2025 and to be removed (docs.kernel.org, amdgpu module "
      "parameters). "
      "It sets what GTT promises, not what TTM grants: between the two an allocation fails";
  finding.fix = where.ends_with("command line")
                    ? how_to_remove(input.state.distribution, fmt::format("amdgpu.gttsize={}", mib))
                    : fmt::format("Remove gttsize{}, then rebuild the initramfs",
                                  where.empty() ? " from amdgpu's options" : " " + where);
  finding.fix += fmt::format("; or `sudo yoke doctor --fix --gpu-memory {}GiB`, which overrides it",
                             recommended_gpu_memory(input.host().memory.total) / kGib);
  return finding;
}

std::optional<Finding> gtt_size_typo(const CheckInput& input) {
  const std::string where = where_set(input, "amdgpu", "gtt_size");
  if (where.empty()) return std::nullopt;
  return Finding{.id = "amdgpu-gtt-size-typo",
                 .severity = Severity::kWarning,
                 .title = "Unknown parameter amdgpu.gtt_size",
                 .found = "set " + where,
                 .wanted = "not set",
                 .why =
                     "amdgpu has no parameter of that name, so the kernel ignores it (\"unknown "
                     "parameter 'gtt_size' ignored\")",
                 .fix = where.ends_with("command line")
                            ? how_to_remove(input.state.distribution, "amdgpu.gtt_size")
                            : "Remove gtt_size " + where,
                 .reboot = true};
}

Finding carve_out(const CheckInput& input, const Device& apu) {
  const std::uint64_t size = apu.memory.carve_out.value_or(0);
  Finding finding{.id = "bios-carve-out",
                  .title = "Memory that the firmware set aside (carve-out)",
                  .found = format_memory(size),
                  .reboot = true};
  if (!has_large_carve_out(apu)) return finding;
  finding.severity = Severity::kWarning;
  finding.found +=
      fmt::format("; the system is left with {}", format_memory(input.host().memory.total));
  finding.wanted = "the smallest size that the BIOS offers, 512 MiB mostly";
  finding.why =
      "The system can't use it, and ROCm uses either the carve-out or GTT, not both (Linux commit "
      "759e764f7d58; ROCm/hip #3892). AMD advises a small carve-out and a large GTT (ROCm "
      "documentation, AMD RDNA3.5 system optimization)";
  finding.fix =
      "In the BIOS: \"UMA frame buffer size\" or \"iGPU memory\" to its minimum; then `sudo yoke "
      "doctor --fix --gpu-memory SIZE`";
  return finding;
}

Finding iommu(const CheckInput& input) {
  const auto value = kernel_argument(input.host(), "amd_iommu");
  Finding finding{.id = "amd-iommu", .title = "IOMMU (amd_iommu)", .reboot = true};
  const Distribution& distribution = input.state.distribution;
  if (value == "pt") {
    finding.severity = Severity::kWarning;
    finding.found = "amd_iommu=pt, which the kernel does not know";
    finding.wanted = "iommu=pt, amd_iommu=off, or neither";
    finding.why = "The kernel ignores it (\"AMD-Vi: Unknown option - 'pt'\")";
    finding.fix = how_to_remove(distribution, "amd_iommu=pt");
  } else if (value == "off") {
    finding.found = "off: faster by 5 to 12 %; no NPU, no VFIO";
  } else {
    finding.severity = Severity::kInfo;
    finding.found = value ? "amd_iommu=" + *value : "on, the kernel's default";
    finding.wanted = "amd_iommu=off, if neither NPU nor virtual machines with devices are used";
    finding.why =
        "5 to 12 % faster prompts on Strix Halo (kyuz0/amd-strix-halo-toolboxes #66); the NPU "
        "stops "
        "working (antirez/ds4 #871), and so does VFIO";
    finding.fix = how_to_add(distribution, "amd_iommu=off");
  }
  return finding;
}

// `--fix --gpu-memory` wrote it, and the machine was not started since.
void mark_pending(const CheckInput& input, std::string_view module, std::string_view name,
                  std::string_view now, Finding& finding) {
  const ModuleOption* option = module_option(input.state, module, name);
  const std::string_view file = path_of(OwnFile::kModprobe);
  if (finding.severity == Severity::kOk || option == nullptr || option->file != file ||
      option->value == now) {
    return;
  }
  finding.fix = fmt::format(
      "Reboot: {} sets {}={} already. If you did, the kernel's command line overrides it", file,
      name, option->value);
}

}  // namespace

void check_unified_memory(const CheckInput& input, std::vector<Finding>& findings) {
  const Device* apu = find_apu(input.machine);
  if (has_amd_graphics(input.machine)) {
    if (auto typo = gtt_size_typo(input)) findings.push_back(std::move(*typo));
  }
  if (apu == nullptr) return;
  const auto pages = input.state.amdgpu.pages_limit;
  if (pages && *pages < kUnlimited / kTtmPage) {
    findings.push_back(pages_limit(input, *apu, *pages));
    mark_pending(input, input.state.amdgpu.packaged_ttm ? "amdttm" : "ttm", "pages_limit",
                 std::to_string(*pages), findings.back());
  }
  if (const auto gttsize = input.state.amdgpu.gttsize) {
    findings.push_back(gtt_size(input));
    mark_pending(input, "amdgpu", "gttsize", std::to_string(*gttsize), findings.back());
  }
  if (apu->memory.carve_out) findings.push_back(carve_out(input, *apu));
  findings.push_back(iommu(input));
}

}  // namespace yoke::doctor
