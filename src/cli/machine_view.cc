#include "cli/machine_view.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "cli/table.h"
#include "cli/text_wrap.h"

namespace yoke::cli {
namespace {

using hardware::BackendVerdict;
using hardware::Cpu;
using hardware::Device;
using hardware::Fact;
using hardware::Host;
using hardware::Machine;
using hardware::MemoryBudget;
using hardware::Observation;
using hardware::Outcome;
using hardware::Vendor;
using hardware::VulkanFacts;

// Foreign text as one line that can't drive the terminal.
std::string safe(std::string_view text) { return wrap(printable(text), 0).front(); }

std::string joined(const std::vector<std::string>& parts) {
  return fmt::format("{}", fmt::join(parts, ", "));
}

// A title, and below it values with a label each, wrapped at the terminal's width.
class Block {
 public:
  Block(const Terminal& terminal, std::string_view title)
      : width_(static_cast<std::size_t>(terminal.width)),
        text_(terminal.bold(safe(title)) + "\n") {}

  void add(std::string_view label, std::string_view value) {
    add_wrapped(fmt::format("  {:<12}", label), value);
  }
  void add_more(std::string_view value) { add("", value); }
  // A yes or no in a column, and why.
  void add_verdict(std::string_view label, std::string_view name, bool yes,
                   std::string_view reason) {
    add_wrapped(fmt::format("  {:<12}{:<8}{:<5}", label, name, yes ? "yes" : "no"), reason);
  }
  // Columns of their own: a part of the memory, its size, what it is.
  void add_part(std::string_view part, std::uint64_t size, std::string_view meaning) {
    add_wrapped(fmt::format("{:14}  {:<10}{:>9}  ", "", part, format_memory(size)), meaning);
  }

  const std::string& text() const { return text_; }

 private:
  void add_wrapped(std::string before, std::string_view value) {
    text_ += wrap_behind(std::move(before), safe(value), width_);
  }

  std::size_t width_;
  std::string text_;
};

// Devices

std::string kind_of(const Device& device) {
  if (device.software) return "software: a Vulkan driver that computes on the processor";
  std::vector<std::string> parts;
  if (!device.architecture_name.empty()) parts.push_back(device.architecture_name);
  if (device.gfx) parts.push_back(device.gfx->value);
  if (device.compute_capability) {
    const auto& capability = device.compute_capability->value;
    parts.push_back(fmt::format("compute capability {}.{}", capability.major, capability.minor));
  }
  if (device.integrated) parts.emplace_back(device.integrated->value ? "integrated" : "discrete");
  if (!parts.empty()) return joined(parts);
  const bool known = device.vendor != Vendor::kOther;
  return known ? fmt::format("{} GPU", name_of(device.vendor)) : "unknown";
}

// The three numbers of an APU, which are one budget.
void add_parts(Block& block, const MemoryBudget& memory, const Host& host) {
  if (memory.carve_out) {
    block.add_part("carve-out", *memory.carve_out, "set aside for the GPU by the firmware");
  }
  if (memory.gtt) block.add_part("GTT", *memory.gtt, "of the RAM, what the GPU may use");
  block.add_part(
      "RAM", host.memory.total,
      fmt::format("without the carve-out; {} available", format_memory(host.memory.available)));
}

void add_memory(Block& block, const Device& device, const Host& host) {
  const MemoryBudget& memory = device.memory;
  block.add("Memory", memory.total == 0
                          ? std::string("unknown")
                          : fmt::format("{} for models, {} of it free", format_memory(memory.total),
                                        format_memory(memory.free)));
  if (memory.unified && (memory.carve_out || memory.gtt)) {
    add_parts(block, memory, host);
    block.add_more(fmt::format("Vulkan can use {}, ROCm {}.", format_memory(memory.vulkan_total),
                               format_memory(memory.rocm_total)));
  } else if (memory.unified) {
    block.add_more("It is the system's memory.");
  }
  for (const std::string& note : memory.notes) block.add_more(note);
}

std::string name_of_vulkan(const VulkanFacts& facts) {
  const std::string_view known = hardware::name_of(facts.driver);
  const std::string name(known == "other" && !facts.driver_name.empty() ? facts.driver_name
                                                                        : known);
  const std::string_view detail = facts.driver_info.empty() ? facts.api_version : facts.driver_info;
  return detail.empty() ? name : fmt::format("{} ({})", name, detail);
}

void add_drivers(Block& block, const Device& device) {
  std::vector<std::string> parts;
  if (device.driver) {
    parts.push_back(device.driver->value);
    if (device.driver_version) parts.back() += " " + device.driver_version->value;
  }
  for (const VulkanFacts& facts : device.vulkan_drivers) parts.push_back(name_of_vulkan(facts));
  if (!parts.empty()) block.add("Driver", joined(parts));
}

void add_backends(Block& block, const Device& device) {
  std::string_view label = "Backends";
  for (const BackendVerdict& verdict : device.backends) {
    block.add_verdict(label, hardware::name_of(verdict.backend), verdict.usable, verdict.reason);
    label = "";
  }
}

std::string seen_by(const Device& device) {
  std::vector<std::string> names;
  for (const hardware::Source source : device.seen_by) names.emplace_back(name_of(source));
  return joined(names);
}

std::string format_device(const Device& device, const Host& host, const Terminal& terminal) {
  Block block(terminal, fmt::format("{}  [{}]", device.name.value, device.id));
  block.add("Kind", kind_of(device));
  add_memory(block, device, host);
  add_drivers(block, device);
  add_backends(block, device);
  if (!device.software) {
    const std::string_view answer = device.vllm_supported ? "officially supported." : "no.";
    block.add("vLLM", fmt::format("{} {}", answer, device.vllm_reason));
  }
  block.add("Seen by", seen_by(device));
  return block.text();
}

// Processor and system

std::string features(const Cpu& cpu) {
  std::vector<std::string> names;
  if (cpu.avx2) names.emplace_back("AVX2");
  if (cpu.avx512) names.emplace_back("AVX-512");
  if (cpu.avx512_vnni) names.emplace_back("AVX-512 VNNI");
  if (cpu.avx512_bf16) names.emplace_back("AVX-512 BF16");
  if (cpu.amx) names.emplace_back("AMX");
  return names.empty() ? "neither AVX2 nor AVX-512" : joined(names);
}

std::string count(int number, std::string_view one) {
  return fmt::format("{} {}{}", number, one, number == 1 ? "" : "s");
}

std::string cores(const Cpu& cpu) {
  std::string text = fmt::format("{}, {}", count(cpu.cores, "core"), count(cpu.threads, "thread"));
  if (cpu.usable_threads < cpu.threads) text += fmt::format(", {:g} usable", cpu.usable_threads);
  if (cpu.sockets > 1) text += fmt::format(", {} sockets", cpu.sockets);
  if (cpu.numa_nodes > 1) text += fmt::format(", {} NUMA nodes", cpu.numa_nodes);
  return text;
}

std::string memory(const Host& host) {
  if (host.memory.total == 0) return "unknown";
  std::string text = fmt::format("{}, {} available", format_memory(host.memory.total),
                                 format_memory(host.memory.available));
  if (host.memory.swap_total > 0) {
    text += fmt::format(", {} swap", format_memory(host.memory.swap_total));
  }
  return text;
}

std::string format_processor(const Host& host, const Terminal& terminal) {
  Block block(terminal, host.cpu.name);
  block.add("Kind", "processor, " + cores(host.cpu));
  block.add("Features", features(host.cpu));
  if (!host.cpu.governor.empty()) block.add("Governor", host.cpu.governor);
  block.add("Memory", memory(host));
  if (host.cpu.memory_bandwidth) {
    const auto rate = static_cast<std::uint64_t>(std::max(0.0, *host.cpu.memory_bandwidth));
    block.add("Bandwidth", fmt::format("{}/s measured", format_bytes(rate)));
  }
  return block.text();
}

std::string format_system(const Host& host, const Terminal& terminal) {
  Block block(terminal, host.product.empty() ? "System" : host.product);
  std::vector<std::string> parts;
  if (!host.os_name.empty()) parts.push_back(host.os_name);
  if (!host.kernel_text.empty()) parts.push_back("Linux " + host.kernel_text);
  if (!parts.empty()) block.add("System", joined(parts));
  std::vector<std::string> limits;
  if (!host.container.kind.empty()) limits.push_back(host.container.kind);
  if (host.cpu.usable_threads < host.cpu.threads) {
    limits.push_back(fmt::format("{:g} of {} threads", host.cpu.usable_threads, host.cpu.threads));
  }
  if (host.memory.limit) {
    limits.push_back(fmt::format("{} of memory", format_memory(*host.memory.limit)));
  }
  if (!limits.empty()) {
    block.add(host.container.kind.empty() ? "Limits" : "Container", joined(limits));
  }
  return block.text();
}

// How it is known

std::string format_detectors(const Machine& machine, const Terminal& terminal) {
  using Align = Table::Align;
  Table table(
      {{"DETECTOR"}, {"RESULT"}, {"DEVICES", Align::kRight}, {"VERSION"}, {"TIME", Align::kRight}});
  for (const Observation& observation : machine.observations) {
    const bool asked = observation.outcome != Outcome::kAbsent;
    const std::size_t devices = observation.devices.size();
    table.add_row({std::string(name_of(observation.source)),
                   std::string(name_of(observation.outcome)),
                   devices > 0 ? std::to_string(devices) : "", safe(observation.version),
                   asked ? format_duration(observation.took) : ""});
    if (observation.detail.empty() || !asked) continue;
    const auto width = static_cast<std::size_t>(terminal.width);
    for (const std::string& line : wrap(safe(observation.detail), width > 4 ? width - 4 : width)) {
      table.add_note("  " + terminal.dim(line));
    }
  }
  return table.render(terminal);
}

std::string text_of(const std::string& value) { return value; }
std::string text_of(bool value) { return value ? "yes" : "no"; }
std::string text_of(std::uint64_t bytes) { return format_memory(bytes); }
std::string text_of(const hardware::ComputeCapability& value) {
  return fmt::format("{}.{}", value.major, value.minor);
}

template <class T>
void add_disagreement(std::vector<std::string>& lines, const Device& device, std::string_view what,
                      const Fact<T>& fact) {
  for (const auto& other : fact.disagreeing) {
    lines.push_back(fmt::format("{}: {} is {} ({}); {} says {}.", device.id, what,
                                text_of(fact.value), name_of(fact.source), name_of(other.source),
                                text_of(other.value)));
  }
}

template <class T>
void add_disagreement(std::vector<std::string>& lines, const Device& device, std::string_view what,
                      const std::optional<Fact<T>>& fact) {
  if (fact) add_disagreement(lines, device, what, *fact);
}

std::vector<std::string> disagreements(const Machine& machine) {
  std::vector<std::string> lines;
  for (const Device& device : machine.devices) {
    add_disagreement(lines, device, "the name", device.name);
    add_disagreement(lines, device, "the gfx version", device.gfx);
    add_disagreement(lines, device, "the compute capability", device.compute_capability);
    add_disagreement(lines, device, "whether it is integrated", device.integrated);
    add_disagreement(lines, device, "the driver", device.driver);
    add_disagreement(lines, device, "the driver's version", device.driver_version);
    add_disagreement(lines, device, "VRAM", device.memory_facts.vram_total);
    add_disagreement(lines, device, "GTT", device.memory_facts.gtt_total);
  }
  return lines;
}

bool is_said_of_a_backend(const Machine& machine, const std::string& note) {
  return std::any_of(machine.devices.begin(), machine.devices.end(), [&](const Device& device) {
    return std::any_of(device.backends.begin(), device.backends.end(), [&](const auto& verdict) {
      return verdict.reason.find(note) != std::string::npos;
    });
  });
}

std::vector<std::string> notes(const Machine& machine) {
  std::vector<std::string> lines;
  for (const std::string& note : machine.notes) {
    if (!is_said_of_a_backend(machine, note)) lines.push_back(note);
  }
  lines.insert(lines.end(), machine.host.notes.begin(), machine.host.notes.end());
  for (const Observation& observation : machine.observations) {
    for (const std::string& note : observation.notes) {
      lines.push_back(fmt::format("{}: {}", name_of(observation.source), note));
    }
  }
  return lines;
}

std::string format_list(std::string_view title, const std::vector<std::string>& lines,
                        const Terminal& terminal) {
  if (lines.empty()) return "";
  std::string text = fmt::format("\n{}\n", terminal.bold(title));
  const auto width = static_cast<std::size_t>(terminal.width);
  for (const std::string& line : lines) {
    std::string_view before = "- ";
    for (const std::string& part : wrap(safe(line), width > 2 ? width - 2 : width)) {
      text += std::string(before) + part + "\n";
      before = "  ";
    }
  }
  return text;
}

}  // namespace

std::string format_machine(const Machine& machine, const Terminal& terminal) {
  const bool has_gpu = std::any_of(machine.devices.begin(), machine.devices.end(),
                                   [](const Device& device) { return !device.software; });
  std::string text = has_gpu ? "" : "No GPU was found: models run on the processor.\n\n";
  for (const Device& device : machine.devices) {
    text += format_device(device, machine.host, terminal) + "\n";
  }
  text += format_processor(machine.host, terminal) + "\n";
  text += format_system(machine.host, terminal) + "\n";
  text += format_detectors(machine, terminal);
  text += format_list("Disagreements", disagreements(machine), terminal);
  text += format_list("Notes", notes(machine), terminal);
  return text;
}

}  // namespace yoke::cli
