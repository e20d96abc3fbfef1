// Admission: a request's place at an engine.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "contexts/engine_contexts.h"
#include "engines/install.h"
#include "http/client.h"
#include "supervisor/route_table.h"

namespace yoke::supervisor {

// An engine that answers.
struct ReadyEngine {
  http::Endpoint endpoint;
  std::string key{};  // That it asks for; secret.
  engines::EngineKind kind = engines::EngineKind::kLlamaCpp;
  std::uint64_t start = 0;  // Route::start of its process.
  std::shared_ptr<InstanceLoad> load{};
  // What was saved of its KV caches; null if it can't save them.
  std::shared_ptr<contexts::EngineContexts> contexts{};
};

// As long as it lives, the scheduler counts a request as waiting or being answered. Move-only; any
// thread.
class Place {
 public:
  Place() = default;
  explicit Place(std::function<void()> give_back) : give_back_(std::move(give_back)) {}
  ~Place() { release(); }
  Place(Place&& other) noexcept : give_back_(std::exchange(other.give_back_, nullptr)) {}
  Place& operator=(Place&& other) noexcept {
    if (this != &other) {
      release();
      give_back_ = std::exchange(other.give_back_, nullptr);
    }
    return *this;
  }

  void release() {
    if (auto give_back = std::exchange(give_back_, nullptr)) give_back();
  }

 private:
  std::function<void()> give_back_;
};

struct Admission {
  ReadyEngine engine;
  Place place;
};

struct AdmitOptions {
  std::chrono::steady_clock::time_point deadline;
  // When the request first came, if an engine died under it since: it keeps its turn.
  std::chrono::steady_clock::time_point since = std::chrono::steady_clock::time_point::max();
  // Route::start of the process that broke an answer off just now; 0: none. If it died, as is
  // likely, its end is waited for.
  std::uint64_t failed_start = 0;
};

}  // namespace yoke::supervisor
