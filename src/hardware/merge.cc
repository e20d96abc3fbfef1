#include <algorithm>
#include <functional>
#include <span>

#include <fmt/format.h>

#include "hardware/architecture.h"
#include "hardware/beliefs.h"
#include "hardware/detect.h"
#include "hardware/memory_budget.h"
#include "hardware/pci_address.h"

namespace yoke::hardware {
namespace {

using beliefs::plain_gfx;
using beliefs::plain_name;

// What one detector says about a device.
struct Answer {
  Source source;
  const ObservedDevice* device;
};

// All that is said about one device.
struct Group {
  std::string id;
  bool has_address = false;
  std::vector<Answer> answers;

  bool seen_by(Source source) const {
    return std::any_of(answers.begin(), answers.end(),
                       [&](const Answer& answer) { return answer.source == source; });
  }
};

bool is_software(const ObservedDevice& device) { return device.vulkan && device.vulkan->software; }

bool is_software(const Group& group) {
  return std::any_of(group.answers.begin(), group.answers.end(),
                     [](const Answer& answer) { return is_software(*answer.device); });
}

// Whether the two are of one kind; a fact that only one of them has proves nothing.
bool looks_like(const ObservedDevice& a, const ObservedDevice& b) {
  if (a.vendor && b.vendor && *a.vendor != *b.vendor) return false;
  if (a.pci_device_id && b.pci_device_id) return *a.pci_device_id == *b.pci_device_id;
  if (a.gfx && b.gfx) return plain_gfx(*a.gfx) == plain_gfx(*b.gfx);
  if (!a.name || !b.name || beliefs::is_generic_name(*a.name)) return false;
  return !beliefs::is_generic_name(*b.name) && beliefs::same_name(*a.name, *b.name);
}

bool looks_like(const ObservedDevice& device, const Group& group) {
  return std::any_of(group.answers.begin(), group.answers.end(),
                     [&](const Answer& answer) { return looks_like(device, *answer.device); });
}

Group* find_by_address(std::vector<Group>& groups, const std::string& address) {
  const auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
    return group.has_address && group.id == address;
  });
  return found == groups.end() ? nullptr : &*found;
}

// The one group that a device without an address can be; nothing if there are two, or if the
// detector has others that it could be as well.
Group* find_by_looks(std::vector<Group>& groups, const Observation& observation,
                     const ObservedDevice& device) {
  if (is_software(device)) return nullptr;
  const auto alike = [&](const ObservedDevice& other) { return looks_like(other, device); };
  if (std::count_if(observation.devices.begin(), observation.devices.end(), alike) > 1) {
    return nullptr;
  }
  Group* found = nullptr;
  for (Group& group : groups) {
    if (is_software(group) || group.seen_by(observation.source) || !looks_like(device, group)) {
      continue;
    }
    if (found != nullptr) return nullptr;
    found = &group;
  }
  return found;
}

std::vector<Group> group_answers(const std::vector<Observation>& observations) {
  std::vector<Group> groups;
  const auto each = [&](bool with_address, const auto& take) {
    for (const Observation& observation : observations) {
      for (const ObservedDevice& device : observation.devices) {
        if (device.pci_address.has_value() == with_address) take(observation, device);
      }
    }
  };
  each(true, [&](const Observation& observation, const ObservedDevice& device) {
    const std::string address =
        parse_pci_address(*device.pci_address).value_or(*device.pci_address);
    Group* group = find_by_address(groups, address);
    if (group == nullptr) group = &groups.emplace_back(Group{address, true, {}});
    group->answers.push_back({observation.source, &device});
  });
  each(false, [&](const Observation& observation, const ObservedDevice& device) {
    Group* group = find_by_looks(groups, observation, device);
    if (group == nullptr) {
      const auto index = &device - observation.devices.data();
      group = &groups.emplace_back(
          Group{fmt::format("{}:{}", name_of(observation.source), index), false, {}});
    }
    group->answers.push_back({observation.source, &device});
  });
  return groups;
}

template <class T>
using Field = std::optional<T> ObservedDevice::*;

// The value of the most believed source, and the others' that are not the same.
template <class T, class Same>
std::optional<Fact<T>> choose(const Group& group, Field<T> field, std::span<const Source> order,
                              const Same& same) {
  std::optional<Fact<T>> fact;
  for (const Source source : order) {
    for (const Answer& answer : group.answers) {
      const std::optional<T>& value = answer.device->*field;
      if (answer.source != source || !value) continue;
      if (!fact) {
        fact = Fact<T>{*value, source, {}};
      } else if (!same(fact->value, *value)) {
        fact->disagreeing.push_back({source, *value});
      }
    }
  }
  return fact;
}

template <class T>
std::optional<Fact<T>> choose(const Group& group, Field<T> field, std::span<const Source> order) {
  return choose(group, field, order, std::equal_to<>());
}

// A number that changes from one moment to the next: nobody disagrees about it.
std::optional<Fact<std::uint64_t>> choose_changing(const Group& group, Field<std::uint64_t> field) {
  return choose(group, field, beliefs::kMemoryParts, [](auto, auto) { return true; });
}

template <class T>
std::optional<T> choose_value(const Group& group, Field<T> field, std::span<const Source> order) {
  const auto fact = choose(group, field, order);
  return fact ? std::optional(fact->value) : std::nullopt;
}

Vendor vendor_of(const Group& group) {
  for (const Answer& answer : group.answers) {
    if (answer.device->vendor && *answer.device->vendor != Vendor::kOther) {
      return *answer.device->vendor;
    }
  }
  return Vendor::kOther;
}

// "AMD GPU 0x1586", where nobody has a name.
std::string made_up_name(const Device& device) {
  std::string name(device.vendor == Vendor::kOther ? "Display device" : name_of(device.vendor));
  if (device.vendor != Vendor::kOther) name += " GPU";
  if (device.pci_device_id) name += fmt::format(" {:#06x}", *device.pci_device_id);
  return name;
}

void make_preferred(Fact<std::string>& fact, std::size_t other) {
  std::swap(fact.value, fact.disagreeing[other].value);
  std::swap(fact.source, fact.disagreeing[other].source);
}

Fact<std::string> choose_name(const Group& group, const Device& device) {
  // All of them first: a generic name gives way to the next that says more.
  auto fact = choose(group, &ObservedDevice::name, beliefs::kName,
                     [](const auto&, const auto&) { return false; });
  if (!fact) return {made_up_name(device), group.answers.front().source, {}};
  for (std::size_t i = 0; i < fact->disagreeing.size(); ++i) {
    if (!beliefs::is_generic_name(fact->value)) break;
    if (!beliefs::is_generic_name(fact->disagreeing[i].value)) make_preferred(*fact, i);
  }
  std::erase_if(fact->disagreeing, [&](const Fact<std::string>::Other& other) {
    return beliefs::same_name(fact->value, other.value);
  });
  fact->value = plain_name(fact->value);
  return *fact;
}

std::optional<Fact<std::string>> choose_gfx(const Group& group, bool integrated) {
  auto fact = choose(group, &ObservedDevice::gfx, beliefs::kGfx,
                     [](const auto&, const auto&) { return false; });
  if (!fact) return fact;
  fact->value = plain_gfx(fact->value);
  for (auto& other : fact->disagreeing) other.value = plain_gfx(other.value);
  // There is no integrated gfx1100: it is what Linux 6.19 takes others for, and HIP repeats it.
  for (std::size_t i = 0; integrated && i < fact->disagreeing.size(); ++i) {
    if (fact->value != "gfx1100") break;
    if (fact->disagreeing[i].value != "gfx1100") make_preferred(*fact, i);
  }
  std::erase_if(fact->disagreeing,
                [&](const Fact<std::string>::Other& other) { return other.value == fact->value; });
  return fact;
}

MemoryFacts memory_facts(const Group& group) {
  MemoryFacts facts;
  facts.vram_total =
      choose(group, &ObservedDevice::vram_total, beliefs::kMemoryParts, beliefs::same_size);
  facts.gtt_total =
      choose(group, &ObservedDevice::gtt_total, beliefs::kMemoryParts, beliefs::same_size);
  facts.vram_used = choose_changing(group, &ObservedDevice::vram_used);
  facts.gtt_used = choose_changing(group, &ObservedDevice::gtt_used);
  for (const Source source : beliefs::kRuntimeMemory) {
    for (const Answer& answer : group.answers) {
      if (answer.source != source || !answer.device->memory_total) continue;
      facts.runtimes.push_back({source, *answer.device->memory_total, answer.device->memory_free});
    }
  }
  return facts;
}

void add_vulkan(const Group& group, Device& device) {
  for (const Answer& answer : group.answers) {
    if (!answer.device->vulkan) continue;
    device.vulkan_drivers.push_back(*answer.device->vulkan);
    device.software = device.software || answer.device->vulkan->software;
  }
}

void add_sources(const Group& group, Device& device) {
  for (const Answer& answer : group.answers) device.seen_by.push_back(answer.source);
  std::sort(device.seen_by.begin(), device.seen_by.end());
  const auto repeated = std::unique(device.seen_by.begin(), device.seen_by.end());
  device.seen_by.erase(repeated, device.seen_by.end());
}

void add_architecture(Device& device) {
  ArchitectureInfo info;
  if (device.gfx) {
    info = architecture_of_gfx(device.gfx->value);
  } else if (device.compute_capability) {
    info = architecture_of_capability(device.compute_capability->value);
  } else if (device.vendor == Vendor::kIntel && !device.software) {
    info.family = Architecture::kIntel;
  } else if (device.vendor == Vendor::kNvidia) {
    info.family = Architecture::kNvidia;
  }
  device.architecture = info.family;
  device.architecture_name = std::move(info.name);
}

Device device_of(const Group& group, const Host& host) {
  Device device;
  device.id = group.id;
  device.vendor = vendor_of(group);
  device.pci_device_id =
      choose_value(group, &ObservedDevice::pci_device_id, beliefs::kKernelNumbers);
  device.name = choose_name(group, device);
  device.integrated = choose(group, &ObservedDevice::integrated, beliefs::kIntegrated);
  device.gfx = choose_gfx(group, device.integrated && device.integrated->value);
  device.compute_capability =
      choose(group, &ObservedDevice::compute_capability, beliefs::kComputeCapability);
  device.driver = choose(group, &ObservedDevice::driver, beliefs::kDriver);
  device.driver_version = choose(group, &ObservedDevice::driver_version, beliefs::kDriverVersion);
  device.render_minor = choose_value(group, &ObservedDevice::render_minor, beliefs::kKernelNumbers);
  device.persistence = choose_value(group, &ObservedDevice::persistence, beliefs::kKernelNumbers);
  device.memory_facts = memory_facts(group);
  add_vulkan(group, device);
  add_sources(group, device);
  add_architecture(device);
  device.memory = memory_budget(device, host.memory);
  return device;
}

}  // namespace

std::vector<Device> merge_devices(const std::vector<Observation>& observations, const Host& host) {
  std::vector<Group> groups = group_answers(observations);
  // By PCI address, then those without one, software last.
  std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
    const bool a_is_software = is_software(a);
    const bool b_is_software = is_software(b);
    if (a_is_software != b_is_software) return b_is_software;
    if (a.has_address != b.has_address) return a.has_address;
    return a.has_address && a.id < b.id;
  });
  std::vector<Device> devices;
  devices.reserve(groups.size());
  for (const Group& group : groups) devices.push_back(device_of(group, host));
  return devices;
}

}  // namespace yoke::hardware
