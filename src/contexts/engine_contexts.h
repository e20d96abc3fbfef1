// EngineContexts: the KV caches in the slots of one engine process, saved to disk before they are
// lost and restored when a prompt begins like one of them.
// Shared by the instance and the requests at its engine; save() on the control loop's thread,
// restore_for() on any.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "contexts/saved_contexts.h"
#include "http/client.h"
#include "io/task.h"

namespace yoke::contexts {

class EngineContexts {
 public:
  // `model`: for log lines. `api_key`: that the engine asks for. `saved` must outlive this.
  EngineContexts(SavedContexts& saved, std::string model, ContextKey key, http::Endpoint engine,
                 std::string api_key);
  ~EngineContexts();

  // Writes what the slots hold to disk, and what the engine moved from them to its cache in memory,
  // as far as it is worth it and not there already. Nothing may be being answered. Whatever goes
  // wrong is logged in one line and harms nothing. Returns at the deadline at the latest.
  io::Task<void> save(std::chrono::milliseconds limit);

  // Before a request is passed on: if its prompt begins like a saved context that is not in a slot
  // yet, that one is restored. `target`: its path, "/v1/chat/completions"; `body`: JSON. Takes next
  // to no time if nothing is there to restore. Never fails.
  io::Task<void> restore_for(std::string target, const std::string& body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::contexts
