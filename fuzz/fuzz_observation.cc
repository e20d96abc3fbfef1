// What a probe's process writes back. Whatever is understood must survive being written and read
// again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "hardware/probe.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto observation = yoke::hardware::parse_observation(text);
  if (!observation) return 0;
  const std::string written = yoke::hardware::to_json(*observation);
  const auto again = yoke::hardware::parse_observation(written);
  if (!again || yoke::hardware::to_json(*again) != written) std::abort();
  return 0;
}
