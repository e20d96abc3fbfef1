// Machine: what can compute here, merged from all detectors into one list of devices.
// Plain values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hardware/host.h"
#include "hardware/observation.h"

namespace yoke::hardware {

// A value, who said so, and who said otherwise.
template <class T>
struct Fact {
  struct Other {
    Source source{};
    T value{};
  };
  T value{};
  Source source{};
  std::vector<Other> disagreeing{};
};

enum class Architecture { kUnknown, kRdna, kCdna, kGcn, kNvidia, kIntel };
std::string_view name_of(Architecture architecture);  // "RDNA", "CDNA", ...

enum class Backend { kVulkan, kRocm, kCuda, kCpu };
std::string_view name_of(Backend backend);  // "vulkan", "rocm", "cuda", "cpu"

// What the detectors say about a device's memory, in bytes; the budget is made of it.
struct MemoryFacts {
  std::optional<Fact<std::uint64_t>> vram_total;
  std::optional<Fact<std::uint64_t>> vram_used;
  std::optional<Fact<std::uint64_t>> gtt_total;
  std::optional<Fact<std::uint64_t>> gtt_used;
  // What each runtime says a program can have, the most believed first. On an APU each counts
  // something else, so these are no disagreement by themselves.
  struct Said {
    Source source{};
    std::uint64_t total = 0;
    std::optional<std::uint64_t> free;
  };
  std::vector<Said> runtimes;
};

// Bytes. On an APU carve-out, GTT and the host's memory are one budget: GTT is host memory.
struct MemoryBudget {
  bool unified = false;
  std::uint64_t total = 0;  // What a model could have at most.
  std::uint64_t free = 0;   // What of it is free now; never more than the host could give.
  std::optional<std::uint64_t> carve_out{};  // VRAM; on an APU set aside by the firmware.
  std::optional<std::uint64_t> gtt{};        // Host memory that the GPU may map.
  // What each backend reaches of `total`: Vulkan carve-out + GTT, ROCm the larger of the two.
  std::uint64_t vulkan_total = 0;
  std::uint64_t rocm_total = 0;
  std::vector<std::string> notes{};  // Where it was clamped, what a runtime says otherwise.
};

struct BackendVerdict {
  Backend backend{};
  bool usable = false;
  std::string reason;  // Why not; or what to know though it is usable. May be empty.
};

struct Device {
  std::string id;  // "0000:c5:00.0", or "vulkan:0" for what has no PCI address.
  Vendor vendor = Vendor::kOther;
  Fact<std::string> name;
  std::optional<Fact<std::string>> gfx;
  std::optional<Fact<ComputeCapability>> compute_capability;
  Architecture architecture = Architecture::kUnknown;
  std::string architecture_name;  // "RDNA 3.5", "CDNA 3", "Ada Lovelace"; may be empty.
  std::optional<Fact<bool>> integrated;
  std::optional<Fact<std::string>> driver;
  std::optional<Fact<std::string>> driver_version;
  std::optional<std::uint32_t> pci_device_id;
  std::optional<int> render_minor;
  std::optional<bool> persistence;
  std::vector<VulkanFacts> vulkan_drivers;
  bool software = false;  // A Vulkan driver that computes on the processor: offered only if asked.
  MemoryFacts memory_facts;
  MemoryBudget memory;
  std::vector<BackendVerdict> backends;  // vulkan, rocm, cuda as far as they concern the vendor.
  bool vllm_supported = false;
  std::string vllm_reason;
  std::vector<Source> seen_by;
};

struct Machine {
  Host host;
  std::vector<Device> devices;            // GPUs by PCI address, software devices last.
  std::vector<Observation> observations;  // Of every detector in the chain's order.
  std::vector<std::string> notes;         // Missing device nodes or groups, unreadable files.
};

}  // namespace yoke::hardware
