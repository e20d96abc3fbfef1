// The parsers behind the DRM and KFD detectors, of text in memory. Bounded and without exceptions:
// what is malformed is absent. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace yoke::hardware {

// PCI_SLOT_NAME of a PCI device's uevent.
std::optional<std::string> parse_uevent_address(std::string_view text);

// The version in /proc/driver/nvidia/version: "580.95.05".
std::optional<std::string> parse_nvidia_version(std::string_view text);

// Model in /proc/driver/nvidia/gpus/ADDRESS/information: "NVIDIA GeForce RTX 4090".
std::optional<std::string> parse_nvidia_model(std::string_view text);

// N of "card" + N or "renderD" + N, digits only: connectors such as "card0-DP-1" are not meant.
std::optional<int> parse_minor(std::string_view name, std::string_view prefix);

// A node of KFD's topology; fields that are missing or out of range are absent.
struct KfdNode {
  std::uint64_t gfx_target_version = 0;  // 0: a processor, not a GPU.
  std::optional<std::string> pci_address;
  std::optional<std::uint32_t> vendor_id;
  std::optional<std::uint32_t> device_id;
  std::optional<int> render_minor;
};
// Nothing if there is no readable gfx_target_version.
std::optional<KfdNode> parse_kfd_node(std::string_view properties);

// Bytes of a memory bank that lies in the GPU's own frame buffer (heap types 1, visible to the
// host, and 2, not visible); 0 for other heaps. Nothing if it is malformed.
std::optional<std::uint64_t> parse_kfd_bank(std::string_view properties);

}  // namespace yoke::hardware
