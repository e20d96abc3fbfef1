// What llama-server is asked about its slots and prompts. Each question is one request with its own
// deadline, and fails as http::send does or with kBadResponse if the engine refuses. Coroutines run
// on the caller's executor.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "http/client.h"
#include "io/task.h"

namespace yoke::contexts {

using Tokens = std::vector<std::int32_t>;

struct EngineAddress {
  http::Endpoint endpoint;
  std::string key;  // Secret.
};

struct Slot {
  int id = 0;
  bool busy = false;
  std::int64_t n_ctx = 0;
  std::int64_t tokens = 0;  // That it holds; 0 where the engine doesn't say.
  std::int64_t task = -1;   // Its last; -1: none since the start.
};

struct SlotSaved {
  std::int64_t tokens = 0;
  std::uint64_t bytes = 0;
};

io::Task<Result<std::vector<Slot>>> get_slots(EngineAddress engine);

// Waits while the slot is busy.
io::Task<Result<SlotSaved>> save_slot(EngineAddress engine, int slot, std::string file,
                                      std::chrono::milliseconds limit);
io::Task<Result<void>> restore_slot(EngineAddress engine, int slot, std::string file,
                                    std::chrono::milliseconds limit);

// The tokens of which the engine would make the prompt of this request. kInvalidArgument where
// there is no way to know.
io::Task<Result<Tokens>> prompt_tokens(EngineAddress engine, std::string target, std::string body);

// Brings a prompt that the engine still has in its cache back into a slot: that one's number; none
// if the engine would have to compute it anew.
io::Task<Result<std::optional<int>>> recall(EngineAddress engine, Tokens prompt);

// Has the engine move what idle slots hold into its cache, as it does before it computes something.
io::Task<Result<void>> move_idle_slots(EngineAddress engine);

}  // namespace yoke::contexts
