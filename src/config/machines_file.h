// Machines described in a TOML file, for plans about hardware that is not here.
// examples/four-strix-halo.toml shows every key. Plain values; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::config {

struct DescribedGpu {
  std::string name;
  std::string backend = "vulkan";         // Or "rocm", "cuda".
  std::string gfx;                        // AMD's name of the architecture, "gfx1151"; or empty.
  bool unified = false;                   // It computes in the machine's memory.
  std::optional<std::uint64_t> memory{};  // Bytes: its own, or what it may map of the machine's.
};

struct DescribedMachine {
  std::string name;
  std::uint64_t memory = 0;                // Bytes that programs could have.
  std::optional<std::uint64_t> reserve{};  // Of these left to the system and what else runs.
  std::vector<DescribedGpu> gpus;
  int line = 0;
};

struct MachinesFile {
  std::vector<DescribedMachine> machines;  // In the file's order.
};

// kConfigNotFound, kIo, or kConfigInvalid with one line per mistake.
Result<MachinesFile> load_machines(const std::filesystem::path& file);
Result<MachinesFile> parse_machines(std::string_view text, const std::filesystem::path& file);

}  // namespace yoke::config
