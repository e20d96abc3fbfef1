// PCI addresses in the one form in which all detectors give them, the kernel's: "0000:c5:00.0".
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace yoke::hardware {

// Lower case, the domain with at least four digits. Nothing for what can't be one.
std::optional<std::string> pci_address(std::uint64_t domain, std::uint64_t bus,
                                       std::uint64_t device, std::uint64_t function);

// "00000000:C5:00.0" and "0000:C5:00" (function 0) too.
std::optional<std::string> parse_pci_address(std::string_view text);

}  // namespace yoke::hardware
