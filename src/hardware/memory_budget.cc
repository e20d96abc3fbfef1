#include "hardware/memory_budget.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/units.h"

namespace yoke::hardware {
namespace {

using Bytes = std::uint64_t;

Bytes minus(Bytes from, Bytes amount) { return from > amount ? from - amount : 0; }

Bytes plus(Bytes a, Bytes b) {
  return a > std::numeric_limits<Bytes>::max() - b ? std::numeric_limits<Bytes>::max() : a + b;
}

Bytes value_of(const std::optional<Fact<Bytes>>& fact) { return fact ? fact->value : 0; }

std::optional<Bytes> optional_value(const std::optional<Fact<Bytes>>& fact) {
  return fact ? std::optional(fact->value) : std::nullopt;
}

// Runtimes keep a few percent for themselves.
constexpr double kRuntimeShare = 0.03;

bool differs(Bytes a, Bytes b, double share) {
  const Bytes difference = a > b ? a - b : b - a;
  return static_cast<double>(difference) > share * static_cast<double>(std::max(a, b));
}

// `wanted` of the host's memory, as far as it has that much; says so where it hasn't.
Bytes clamp_to_host(Bytes wanted, std::string_view what, const HostMemory& host,
                    MemoryBudget& budget) {
  if (host.total == 0) return wanted;  // Unknown: there is nothing to compare with.
  Bytes most = wanted;
  if (most > host.total) {
    most = host.total;
    budget.notes.push_back(fmt::format("{} is {}, but the system has only {} to fill it with.",
                                       what, format_memory(wanted), format_memory(most)));
  }
  if (host.limit && most > *host.limit) {
    most = *host.limit;
    budget.notes.push_back(
        fmt::format("The container's memory limit leaves {} of {}.", format_memory(most), what));
  }
  return most;
}

Bytes available(const HostMemory& host) {
  return host.total == 0 ? std::numeric_limits<Bytes>::max() : host.available;
}

// The amdgpu driver gives ROCm's allocations GTT only where GTT is the larger part (kernel commit
// 759e764f7d58), and then nothing of the carve-out. It looks at the configured sizes: where the
// host can't fill its GTT, ROCm has less than the carve-out would give.
Bytes rocm_total(Bytes carve_out, Bytes gtt, Bytes shared, MemoryBudget& budget) {
  if (gtt <= carve_out) return carve_out;
  if (shared < carve_out) {
    budget.notes.push_back(fmt::format(
        "ROCm takes its memory from GTT, because that is set larger than the carve-out, and so "
        "gets {} at most.",
        format_memory(shared)));
  }
  return shared;
}

// The numbers that runtimes give for an APU are where users lose days, so a strange one is shown.
// What the system can't fill is no matter of theirs.
void compare_with_runtimes(const MemoryFacts& facts, MemoryBudget& budget) {
  const Bytes carve_out = value_of(facts.vram_total);
  const Bytes gtt = value_of(facts.gtt_total);
  for (const MemoryFacts::Said& said : facts.runtimes) {
    if (said.source != Source::kHip && said.source != Source::kVulkan) continue;
    const bool rocm = said.source == Source::kHip;
    const Bytes expected = rocm ? std::max(carve_out, gtt) : plus(carve_out, gtt);
    if (!differs(said.total, expected, kRuntimeShare)) continue;
    std::string note =
        fmt::format("{} reports {}, where {} follow from the kernel's numbers.",
                    rocm ? "HIP" : "Vulkan", format_memory(said.total), format_memory(expected));
    // Two Vulkan drivers may say the same.
    if (budget.notes.empty() || budget.notes.back() != note)
      budget.notes.push_back(std::move(note));
  }
}

MemoryBudget apu_budget(const MemoryFacts& facts, const HostMemory& host) {
  MemoryBudget budget{.unified = true};
  budget.carve_out = optional_value(facts.vram_total);
  budget.gtt = optional_value(facts.gtt_total);
  const Bytes carve_out = value_of(facts.vram_total);
  const Bytes gtt = value_of(facts.gtt_total);
  // The carve-out is hidden from the system, so it is not part of the host's total.
  const Bytes shared = clamp_to_host(gtt, "GTT", host, budget);
  budget.total = plus(carve_out, shared);
  // The kernel's count of used GTT misses hipMalloc on some versions (ROCm #5444): what the system
  // has available is the second opinion.
  const Bytes free_carve_out = minus(carve_out, value_of(facts.vram_used));
  const Bytes free_shared =
      std::min({minus(gtt, value_of(facts.gtt_used)), shared, available(host)});
  budget.free = plus(free_carve_out, free_shared);
  budget.vulkan_total = budget.total;
  budget.rocm_total = rocm_total(carve_out, gtt, shared, budget);
  compare_with_runtimes(facts, budget);
  return budget;
}

// Integrated GPUs that have the host's memory without parts of their own: NVIDIA's GB10 and Jetson,
// Intel's, and processors that pose as a GPU. `most`: what a runtime says, where it says something.
MemoryBudget host_budget(Vendor vendor, std::optional<Bytes> most, const HostMemory& host) {
  MemoryBudget budget{.unified = true};
  const Bytes all = host.limit ? std::min(*host.limit, host.total) : host.total;
  budget.total = most && all > 0 ? std::min(*most, all) : most.value_or(all);
  budget.free = std::min(budget.total, available(host));
  budget.vulkan_total = budget.total;
  budget.rocm_total = vendor == Vendor::kAmd ? budget.total : 0;
  if (budget.total == 0) budget.notes.emplace_back("How much memory the system has is unknown.");
  return budget;
}

MemoryBudget discrete_budget(Vendor vendor, const MemoryFacts& facts) {
  MemoryBudget budget;
  budget.carve_out = optional_value(facts.vram_total);
  budget.gtt = optional_value(facts.gtt_total);  // Known, but too slow to be counted.
  if (facts.vram_total) {
    budget.total = facts.vram_total->value;
    budget.free = minus(budget.total, value_of(facts.vram_used));
  } else if (!facts.runtimes.empty()) {
    const MemoryFacts::Said& best = facts.runtimes.front();
    budget.total = best.total;
    budget.free = std::min(best.free.value_or(best.total), best.total);
    if (!best.free) budget.notes.emplace_back("No detector could say how much of it is used.");
  } else {
    budget.notes.emplace_back("No detector could say how much memory it has.");
  }
  budget.vulkan_total = budget.total;
  budget.rocm_total = vendor == Vendor::kAmd ? budget.total : 0;
  for (const MemoryFacts::Said& said : facts.runtimes) {
    if (!differs(said.total, budget.total, kRuntimeShare)) continue;
    budget.notes.push_back(
        fmt::format("{} reports {}.", name_of(said.source), format_memory(said.total)));
  }
  return budget;
}

// NVML does not know the memory of GB10 and Jetson, which is the host's (NVML_ERROR_NOT_SUPPORTED).
bool has_no_memory_of_its_own(const Device& device) {
  const bool nvml = std::find(device.seen_by.begin(), device.seen_by.end(), Source::kNvml) !=
                    device.seen_by.end();
  return device.vendor == Vendor::kNvidia && nvml && !device.integrated &&
         device.memory_facts.runtimes.empty() && !device.memory_facts.vram_total;
}

}  // namespace

MemoryBudget memory_budget(const Device& device, const HostMemory& host) {
  const MemoryFacts& facts = device.memory_facts;
  const bool integrated = device.integrated && device.integrated->value;
  if (!integrated && !device.software && !has_no_memory_of_its_own(device)) {
    return discrete_budget(device.vendor, facts);
  }
  if (!device.software && (facts.vram_total || facts.gtt_total)) return apu_budget(facts, host);
  const auto most =
      facts.runtimes.empty() ? std::nullopt : std::optional(facts.runtimes.front().total);
  return host_budget(device.vendor, most, host);
}

}  // namespace yoke::hardware
