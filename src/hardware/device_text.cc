#include "hardware/device_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "hardware/kernel_devices.h"
#include "hardware/noted_files.h"
#include "hardware/pci_address.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

// The number of the line "KEY NUMBER", at most `largest`.
std::optional<std::uint64_t> property(std::string_view text, std::string_view key,
                                      std::uint64_t largest) {
  const auto value = field(text, key, ' ');
  const auto number = value ? parse_digits(*value, 10) : std::nullopt;
  return number && *number <= largest ? number : std::nullopt;
}

std::optional<std::string> pci_address_of(std::string_view properties) {
  const auto location = property(properties, "location_id", 0xffff);
  const auto domain = property(properties, "domain", 0xffffffff);
  if (!location) return std::nullopt;
  return pci_address(domain.value_or(0), *location >> 8, *location >> 3 & 0x1f, *location & 7);
}

bool is_version(std::string_view word) {
  return word.size() <= 32 && std::ranges::count(word, '.') >= 1 &&
         word.find_first_not_of("0123456789.") == std::string_view::npos && word.front() != '.' &&
         word.back() != '.';
}

}  // namespace

std::optional<std::string> parse_uevent_address(std::string_view text) {
  const auto slot = field(text, "PCI_SLOT_NAME", '=');
  return slot ? parse_pci_address(*slot) : std::nullopt;
}

std::optional<std::string> parse_nvidia_version(std::string_view text) {
  auto line = field(text, "NVRM version", ':');
  if (!line) return std::nullopt;
  for (auto word = take_word(*line); !word.empty(); word = take_word(*line)) {
    if (is_version(word)) return std::string(word);
  }
  return std::nullopt;
}

std::optional<std::string> parse_nvidia_model(std::string_view text) {
  const auto model = field(text, "Model", ':');
  if (!model || model->empty()) return std::nullopt;
  return printable(*model);
}

std::optional<int> parse_minor(std::string_view name, std::string_view prefix) {
  constexpr std::uint64_t kHighest = (1u << 20) - 1;  // The kernel's minor numbers have 20 bits.
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto number = parse_digits(name.substr(prefix.size()), 10);
  if (!number || *number > kHighest) return std::nullopt;
  return static_cast<int>(*number);
}

std::optional<KfdNode> parse_kfd_node(std::string_view properties) {
  const auto version = property(properties, "gfx_target_version", UINT64_MAX);
  if (!version) return std::nullopt;
  KfdNode node;
  node.gfx_target_version = *version;
  node.pci_address = pci_address_of(properties);
  const auto id = [&](std::string_view key) -> std::optional<std::uint32_t> {
    const auto value = property(properties, key, 0xffff);
    return value ? std::optional(static_cast<std::uint32_t>(*value)) : std::nullopt;
  };
  node.vendor_id = id("vendor_id");
  node.device_id = id("device_id");
  // Render nodes begin at 128; 0 and -1 (as an unsigned number) stand for none.
  const auto minor = property(properties, "drm_render_minor", (1u << 20) - 1);
  if (minor && *minor >= 128) node.render_minor = static_cast<int>(*minor);
  return node;
}

std::optional<std::uint64_t> parse_kfd_bank(std::string_view properties) {
  const auto heap = property(properties, "heap_type", UINT64_MAX);
  const auto size = property(properties, "size_in_bytes", kLargestSize);
  if (!heap || !size) return std::nullopt;
  return *heap == 1 || *heap == 2 ? *size : 0;
}

std::string gfx_of_target_version(std::uint64_t version) {
  const std::uint64_t major = version / 10000;
  const std::uint64_t minor = version / 100 % 100;
  const std::uint64_t step = version % 100;
  if (major < 1 || major > 99 || minor > 15 || step > 15) return {};
  return fmt::format("gfx{}{:x}{:x}", major, minor, step);
}

}  // namespace yoke::hardware
