// How much memory this process, and so an engine it starts, may lock. Any thread.
#pragma once

#include <cstdint>
#include <optional>

namespace yoke::engines {

// In bytes; nullopt: any number (no RLIMIT_MEMLOCK, or the capability CAP_IPC_LOCK).
std::optional<std::uint64_t> memory_lock_limit();

}  // namespace yoke::engines
