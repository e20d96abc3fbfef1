// How much of an APU's memory the GPU may map: the arithmetic and the rule. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "hardware/machine.h"

namespace yoke::doctor {

inline constexpr ErrorCode kGpuMemoryRefused{"gpu_memory_refused"};

inline constexpr std::uint64_t kGib = 1u << 30;
// The unit of ttm.pages_limit, whatever the size of the processor's pages.
inline constexpr std::uint64_t kTtmPage = 4096;
inline constexpr std::uint64_t kPagesPerGib = kGib / kTtmPage;  // 262144

// What has to stay out of the GPU's reach for the system and the engines' own processes: 4 GiB or a
// 32nd of the memory, whichever is more. 120 GiB of a 128 GB box pass, 124 GiB don't.
std::uint64_t host_reserve(std::uint64_t ram);

// The advice for a machine that mostly serves models: twice that reserve left, whole GiB.
std::uint64_t recommended_gpu_memory(std::uint64_t ram);

// The integrated AMD GPU that shares the host's memory; null if there is none.
const hardware::Device* find_apu(const hardware::Machine& machine);

// The value of ttm.pages_limit that lets the GPU map `bytes`. kGpuMemoryRefused with the reason.
Result<std::uint64_t> pages_for(std::uint64_t bytes, const hardware::Machine& machine);

// Many guides compute pages as GB x 1024 x 1024 / 4.096. The GiB that were meant, if `pages` is
// such a number: 27648000 is 105.5 GiB, where 108 were meant.
std::optional<std::uint64_t> meant_by_common_mistake(std::uint64_t pages);

}  // namespace yoke::doctor
