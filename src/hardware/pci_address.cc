#include "hardware/pci_address.h"

#include <fmt/format.h>

#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

// Cuts a hexadecimal number and the separator behind it off `text`.
std::optional<std::uint64_t> take_hex(std::string_view& text, char separator) {
  const std::string_view digits = text.substr(0, text.find(separator));
  text.remove_prefix(digits.size() < text.size() ? digits.size() + 1 : text.size());
  return parse_digits(digits, 16);
}

}  // namespace

std::optional<std::string> pci_address(std::uint64_t domain, std::uint64_t bus,
                                       std::uint64_t device, std::uint64_t function) {
  if (domain > 0xffff'ffff || bus > 0xff || device > 0x1f || function > 7) return std::nullopt;
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain, bus, device, function);
}

std::optional<std::string> parse_pci_address(std::string_view text) {
  const auto domain = take_hex(text, ':');
  const auto bus = take_hex(text, ':');
  const auto device = take_hex(text, '.');
  const auto function = text.empty() ? 0 : parse_digits(text, 16);
  if (!domain || !bus || !device || !function) return std::nullopt;
  return pci_address(*domain, *bus, *device, *function);
}

}  // namespace yoke::hardware
