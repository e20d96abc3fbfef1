// The JSON form of a machine. Names and numbers of foreign origin are in it, so text that is no
// UTF-8 must not get through.
#include <string>

#include <boost/json.hpp>

#include "base/json_text.h"
#include "hardware/detect.h"

namespace yoke::hardware {
namespace {

namespace json = boost::json;

json::value plain(std::string_view value) { return utf8_json(value); }
json::value plain(const std::string& value) { return utf8_json(value); }
json::value plain(bool value) { return value; }
json::value plain(std::uint64_t value) { return value; }
json::value plain(ComputeCapability value) {
  return json::string(std::to_string(value.major) + "." + std::to_string(value.minor));
}

// What is not known is null, so that a reader finds every field.
template <class T>
json::value optional(const std::optional<T>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

template <class T>
json::value fact(const Fact<T>& fact) {
  json::array disagreeing;
  for (const auto& other : fact.disagreeing) {
    disagreeing.push_back(
        json::object{{"source", plain(name_of(other.source))}, {"value", plain(other.value)}});
  }
  return json::object{{"value", plain(fact.value)},
                      {"source", plain(name_of(fact.source))},
                      {"disagreeing", std::move(disagreeing)}};
}

template <class T>
json::value fact(const std::optional<Fact<T>>& known) {
  return known ? fact(*known) : json::value(nullptr);
}

json::array texts(const std::vector<std::string>& lines) {
  json::array array;
  for (const std::string& line : lines) array.push_back(utf8_json(line));
  return array;
}

json::object cpu(const Cpu& cpu) {
  return {{"name", utf8_json(cpu.name)},
          {"cores", cpu.cores},
          {"threads", cpu.threads},
          {"usable_threads", cpu.usable_threads},
          {"sockets", cpu.sockets},
          {"numa_nodes", cpu.numa_nodes},
          {"avx2", cpu.avx2},
          {"avx512", cpu.avx512},
          {"avx512_bf16", cpu.avx512_bf16},
          {"avx512_vnni", cpu.avx512_vnni},
          {"amx", cpu.amx},
          {"governor", utf8_json(cpu.governor)},
          {"memory_bandwidth", optional(cpu.memory_bandwidth)}};
}

json::object host(const Host& host) {
  const HostMemory& memory = host.memory;
  return {{"os", utf8_json(host.os_name)},
          {"os_id", utf8_json(host.os_id)},
          {"product", utf8_json(host.product)},
          {"kernel", utf8_json(host.kernel_text)},
          {"kernel_arguments", texts(host.kernel_arguments)},
          {"container", utf8_json(host.container.kind)},
          {"cpu", cpu(host.cpu)},
          {"memory",
           {{"total", memory.total},
            {"available", memory.available},
            {"swap_total", memory.swap_total},
            {"swap_free", memory.swap_free},
            {"limit", optional(memory.limit)}}},
          {"notes", texts(host.notes)}};
}

json::object budget(const Device& device) {
  const MemoryBudget& memory = device.memory;
  const MemoryFacts& facts = device.memory_facts;
  json::array runtimes;
  for (const MemoryFacts::Said& said : facts.runtimes) {
    runtimes.push_back(json::object{{"source", plain(name_of(said.source))},
                                    {"total", said.total},
                                    {"free", optional(said.free)}});
  }
  return {{"unified", memory.unified},
          {"total", memory.total},
          {"free", memory.free},
          {"vulkan_total", memory.vulkan_total},
          {"rocm_total", memory.rocm_total},
          {"vram_total", fact(facts.vram_total)},
          {"vram_used", fact(facts.vram_used)},
          {"gtt_total", fact(facts.gtt_total)},
          {"gtt_used", fact(facts.gtt_used)},
          {"runtimes", std::move(runtimes)},
          {"notes", texts(memory.notes)}};
}

json::array vulkan_drivers(const Device& device) {
  json::array drivers;
  for (const VulkanFacts& facts : device.vulkan_drivers) {
    drivers.push_back(json::object{{"driver", plain(name_of(facts.driver))},
                                   {"driver_name", utf8_json(facts.driver_name)},
                                   {"driver_info", utf8_json(facts.driver_info)},
                                   {"api_version", utf8_json(facts.api_version)},
                                   {"software", facts.software}});
  }
  return drivers;
}

json::object device(const Device& device) {
  json::array backends;
  for (const BackendVerdict& verdict : device.backends) {
    backends.push_back(json::object{{"backend", plain(name_of(verdict.backend))},
                                    {"usable", verdict.usable},
                                    {"reason", utf8_json(verdict.reason)}});
  }
  json::array seen_by;
  for (const Source source : device.seen_by) seen_by.push_back(plain(name_of(source)));
  return {
      {"id", utf8_json(device.id)},
      {"vendor", plain(name_of(device.vendor))},
      {"name", fact(device.name)},
      {"gfx", fact(device.gfx)},
      {"compute_capability", fact(device.compute_capability)},
      {"architecture", plain(name_of(device.architecture))},
      {"architecture_name", utf8_json(device.architecture_name)},
      {"integrated", fact(device.integrated)},
      {"software", device.software},
      {"driver", fact(device.driver)},
      {"driver_version", fact(device.driver_version)},
      {"pci_device_id", optional(device.pci_device_id)},
      {"render_minor", optional(device.render_minor)},
      {"persistence", optional(device.persistence)},
      {"vulkan_drivers", vulkan_drivers(device)},
      {"memory", budget(device)},
      {"backends", std::move(backends)},
      {"vllm", {{"supported", device.vllm_supported}, {"reason", utf8_json(device.vllm_reason)}}},
      {"seen_by", std::move(seen_by)}};
}

}  // namespace

std::string to_json(const Machine& machine) {
  json::array devices;
  for (const Device& each : machine.devices) devices.push_back(device(each));
  json::array detectors;
  for (const Observation& observation : machine.observations) {
    boost::system::error_code error;
    json::value parsed = json::parse(to_json(observation), error);
    if (!error) detectors.push_back(std::move(parsed));
  }
  return json_text(json::object{{"host", host(machine.host)},
                                {"devices", std::move(devices)},
                                {"detectors", std::move(detectors)},
                                {"notes", texts(machine.notes)}});
}

}  // namespace yoke::hardware
