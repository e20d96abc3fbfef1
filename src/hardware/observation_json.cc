// An observation as JSON: what a probe's child writes and its parent, who trusts nothing, reads.
#include <algorithm>
#include <array>
#include <limits>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "hardware/observation.h"
#include "hardware/probe.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

namespace json = boost::json;

constexpr std::size_t kLongestText = 1 << 20;
constexpr std::size_t kLongestString = 1024;
constexpr std::size_t kMostDevices = 256;
constexpr std::size_t kMostNotes = 256;

constexpr std::array kOutcomes{Outcome::kFound, Outcome::kNoDevices, Outcome::kAbsent,
                               Outcome::kFailed};
constexpr std::array kVendors{Vendor::kAmd, Vendor::kNvidia, Vendor::kIntel, Vendor::kOther};
constexpr std::array kDrivers{VulkanDriver::kRadv,     VulkanDriver::kAmdvlk, VulkanDriver::kAmdPro,
                              VulkanDriver::kNvidia,   VulkanDriver::kNvk,    VulkanDriver::kAnv,
                              VulkanDriver::kLavapipe, VulkanDriver::kOther};

// Every field of a device, for the writer and the reader alike.
template <class Device, class Visitor>
void visit_fields(Device& device, Visitor&& visit) {
  visit("pci_address", device.pci_address);
  visit("vendor", device.vendor);
  visit("pci_device_id", device.pci_device_id);
  visit("name", device.name);
  visit("gfx", device.gfx);
  visit("compute_capability", device.compute_capability);
  visit("integrated", device.integrated);
  visit("driver", device.driver);
  visit("driver_version", device.driver_version);
  visit("vram_total", device.vram_total);
  visit("vram_used", device.vram_used);
  visit("gtt_total", device.gtt_total);
  visit("gtt_used", device.gtt_used);
  visit("memory_total", device.memory_total);
  visit("memory_free", device.memory_free);
  visit("render_minor", device.render_minor);
  visit("persistence", device.persistence);
  visit("vulkan", device.vulkan);
}

std::string clean(std::string_view text) {
  std::string result(text.substr(0, kLongestString));
  std::ranges::replace_if(result, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return result;
}

json::value write(std::string_view text) { return json::value(clean(text)); }
json::value write(const std::string& text) { return json::value(clean(text)); }
json::value write(bool flag) { return json::value(flag); }
// Negative ones mean nothing in any field, and the reader would refuse them.
json::value write(int number) { return number < 0 ? json::value(nullptr) : json::value(number); }
json::value write(std::uint32_t number) { return json::value(number); }
json::value write(Vendor vendor) { return write(name_of(vendor)); }

// Larger than what JSON readers take is larger than any memory: the same as not known.
json::value write(std::uint64_t number) {
  constexpr auto kLargest = std::uint64_t{std::numeric_limits<std::int64_t>::max()};
  return number > kLargest ? json::value(nullptr) : json::value(number);
}

json::value write(const ComputeCapability& capability) {
  if (capability.major < 0 || capability.minor < 0) return nullptr;
  return json::object{{"major", capability.major}, {"minor", capability.minor}};
}

json::value write(const VulkanFacts& facts) {
  return json::object{{"driver", write(name_of(facts.driver))},
                      {"driver_name", write(facts.driver_name)},
                      {"driver_info", write(facts.driver_info)},
                      {"api_version", write(facts.api_version)},
                      {"software", facts.software}};
}

json::object write(const ObservedDevice& device) {
  json::object object;
  visit_fields(device, [&object](const char* name, const auto& value) {
    if (value) object[name] = write(*value);
  });
  return object;
}

// Reads one named field into a value of its type.
class Reader {
 public:
  explicit Reader(const JsonFields& fields) : fields_(fields) {}

  Result<void> read(const char* name, std::string& value) const {
    YOKE_TRY(auto text, fields_.string(name));
    if (text.size() > kLongestString) return refuse(name, "is too long");
    value = clean(text);
    return {};
  }
  Result<void> read(const char* name, bool& value) const {
    YOKE_TRY(value, fields_.boolean(name));
    return {};
  }
  template <std::integral T>
  Result<void> read(const char* name, T& value) const {
    YOKE_TRY(const auto number, fields_.integer(name));
    if (number < 0 || !std::in_range<T>(number)) return refuse(name, "is out of range");
    value = static_cast<T>(number);
    return {};
  }
  Result<void> read(const char* name, Vendor& value) const { return choose(name, value, kVendors); }
  Result<void> read(const char* name, Outcome& value) const {
    return choose(name, value, kOutcomes);
  }
  Result<void> read(const char* name, VulkanDriver& value) const {
    return choose(name, value, kDrivers);
  }
  Result<void> read(const char* name, Source& value) const {
    YOKE_TRY(const auto text, fields_.string(name));
    const auto source = source_of(text);
    if (!source) return refuse(name, "is unknown");
    value = *source;
    return {};
  }
  Result<void> read(const char* name, ComputeCapability& value) const {
    YOKE_TRY(const auto object, fields_.object(name));
    const Reader inner(object);
    YOKE_CHECK(inner.read("major", value.major));
    return inner.read("minor", value.minor);
  }
  Result<void> read(const char* name, VulkanFacts& value) const {
    YOKE_TRY(const auto object, fields_.object(name));
    const Reader inner(object);
    YOKE_CHECK(inner.read("driver", value.driver));
    YOKE_CHECK(inner.read("driver_name", value.driver_name));
    YOKE_CHECK(inner.read("driver_info", value.driver_info));
    YOKE_CHECK(inner.read("api_version", value.api_version));
    return inner.read("software", value.software);
  }
  template <class T>
  Result<void> read(const char* name, std::optional<T>& value) const {
    if (!fields_.has(name)) return {};
    return read(name, value.emplace());
  }

 private:
  template <class T, std::size_t size>
  Result<void> choose(const char* name, T& value, const std::array<T, size>& choices) const {
    YOKE_TRY(const auto text, fields_.string(name));
    const auto found = std::ranges::find_if(choices, [&](T one) { return name_of(one) == text; });
    if (found == choices.end()) return refuse(name, "is unknown");
    value = *found;
    return {};
  }
  static Result<void> refuse(std::string_view name, std::string_view why) {
    return fail(kInvalidJson, fmt::format("{}: {}.", name, why));
  }

  const JsonFields& fields_;
};

Result<ObservedDevice> read_device(const JsonFields& fields) {
  const Reader reader(fields);
  ObservedDevice device;
  Result<void> result;
  visit_fields(device, [&](const char* name, auto& value) {
    if (result) result = reader.read(name, value);
  });
  YOKE_CHECK(std::move(result));
  return device;
}

Result<std::vector<std::string>> read_notes(const json::value& document) {
  const auto* const notes = document.as_object().if_contains("notes");
  const auto* const array = notes == nullptr ? nullptr : notes->if_array();
  if (array == nullptr || array->size() > kMostNotes) {
    return fail(kInvalidJson, "notes: expected a short array.");
  }
  std::vector<std::string> result;
  for (const auto& note : *array) {
    const auto* const text = note.if_string();
    if (text == nullptr || text->size() > kLongestString) {
      return fail(kInvalidJson, "notes: expected short strings.");
    }
    result.push_back(clean({text->data(), text->size()}));
  }
  return result;
}

}  // namespace

std::string to_json(const Observation& observation) {
  json::array devices;
  for (const auto& device : observation.devices) {
    if (devices.size() == kMostDevices) break;
    devices.push_back(write(device));
  }
  json::array notes;
  for (const auto& note : observation.notes) {
    if (notes.size() == kMostNotes) break;
    notes.push_back(write(note));
  }
  return json::serialize(json::object{{"source", write(name_of(observation.source))},
                                      {"outcome", write(name_of(observation.outcome))},
                                      {"detail", write(observation.detail)},
                                      {"version", write(observation.version)},
                                      {"took_ms", observation.took.count()},
                                      {"notes", std::move(notes)},
                                      {"devices", std::move(devices)}});
}

Result<Observation> parse_observation(std::string_view text) {
  if (text.size() > kLongestText) return fail(kInvalidJson, "An observation is at most 1 MiB.");
  YOKE_TRY(const auto document, parse_json(text));
  YOKE_TRY(const auto fields, JsonFields::of(document));
  const Reader reader(fields);
  Observation observation;
  YOKE_CHECK(reader.read("source", observation.source));
  YOKE_CHECK(reader.read("outcome", observation.outcome));
  YOKE_CHECK(reader.read("detail", observation.detail));
  YOKE_CHECK(reader.read("version", observation.version));
  std::int64_t took = 0;
  YOKE_CHECK(reader.read("took_ms", took));
  observation.took = std::chrono::milliseconds(took);
  YOKE_TRY(observation.notes, read_notes(document));
  YOKE_TRY(const auto devices, fields.objects("devices"));
  if (devices.size() > kMostDevices) return fail(kInvalidJson, "devices: more than 256.");
  for (const auto& device : devices) {
    YOKE_TRY(auto observed, read_device(device));
    observation.devices.push_back(std::move(observed));
  }
  return observation;
}

}  // namespace yoke::hardware
