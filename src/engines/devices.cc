#include "engines/devices.h"

#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "engines/capabilities.h"
#include "engines/text_lines.h"

namespace yoke::engines {
namespace {

constexpr std::string_view kHeading = "Available devices:";
constexpr std::size_t kMaxDevices = 64;
constexpr std::size_t kMaxTextBytes = 256;
constexpr std::uint64_t kMaxMebibytes = std::uint64_t{1} << 40;
constexpr std::string_view kBlanks = " \t";

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

bool take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

std::optional<std::uint64_t> take_mebibytes(std::string_view& text) {
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc{} || count > kMaxMebibytes) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (!take(text, " MiB")) return std::nullopt;
  return count << 20;
}

// "(24104 MiB, 22000 MiB free)" at the start of `text`.
bool read_memory(std::string_view text, EngineDevice& device) {
  if (!take(text, "(")) return false;
  const auto total = take_mebibytes(text);
  if (!total || !take(text, ", ")) return false;
  const auto free = take_mebibytes(text);
  if (!free || !take(text, " free)")) return false;
  device.total_bytes = *total;
  device.free_bytes = *free;
  return true;
}

// "  Vulkan0: llvmpipe (LLVM 15.0.6, 256 bits) (24104 MiB, 22000 MiB free)". The name may hold
// parentheses and colons of its own; log lines, which may come in between, are not indented.
std::optional<EngineDevice> parse_device(std::string_view line) {
  if (line.find_first_not_of(kBlanks) == 0) return std::nullopt;
  const std::size_t colon = line.find(": ");
  if (colon == std::string_view::npos) return std::nullopt;
  EngineDevice device;
  device.id = trim(line.substr(0, colon));
  const std::string_view rest = line.substr(colon + 1);
  for (std::size_t at = rest.find(" ("); at != std::string_view::npos;
       at = rest.find(" (", at + 1)) {
    if (!read_memory(rest.substr(at + 1), device)) continue;
    device.name = trim(rest.substr(0, at));
    const bool fits = device.id.size() <= kMaxTextBytes && device.name.size() <= kMaxTextBytes;
    if (device.id.empty() || device.name.empty() || !fits) return std::nullopt;
    return device;
  }
  return std::nullopt;
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kBackendsOfIds{
    {{"Vulkan", "vulkan"}, {"ROCm", "rocm"}, {"CUDA", "cuda"}}};

}  // namespace

Result<std::vector<EngineDevice>> parse_devices(std::string_view output) {
  bool listed = false;
  std::vector<EngineDevice> devices;
  while (!output.empty() && devices.size() < kMaxDevices) {
    const std::string_view line = take_line(output);
    if (!listed) {
      listed = line.starts_with(kHeading);
    } else if (auto device = parse_device(line)) {
      devices.push_back(std::move(*device));
    }
  }
  if (!listed) {
    return fail(
        kEngineUnusable, "It prints no list of devices for `--list-devices`.",
        "Install another llama-server with `make engine`, or correct [engines] llama_server.");
  }
  return devices;
}

std::string_view backend_of(const std::vector<EngineDevice>& devices) {
  if (devices.empty()) return "cpu";
  for (const EngineDevice& device : devices) {
    for (const auto& [prefix, backend] : kBackendsOfIds) {
      if (device.id.starts_with(prefix)) return backend;
    }
  }
  return "";
}

}  // namespace yoke::engines
