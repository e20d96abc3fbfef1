// What the scheduler is told. Plain values; any thread.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "scheduler/types.h"

namespace yoke::scheduler {

struct PoolChanged {
  PoolId pool = 0;
  std::string name;  // For messages: "unified memory".
  std::uint64_t budget = 0;
};
// Models of the groups of a pair are never loaded at once; ("a", "a"): one model of "a" at a time.
struct GroupsChanged {
  std::vector<std::pair<std::string, std::string>> exclusive;
};
// All at once, so that their order does not decide. Those that stay as they are may be named too.
struct ModelsChanged {
  std::vector<ModelSpec> set;
  std::vector<std::string> removed;
};
struct RequestArrived {
  RequestId request = 0;
  std::string model;
  int priority = 0;             // Added to the model's.
  Time deadline = Time::max();  // For its Dispatch.
  Time since = Time::max();     // Of one whose engine died: when it first came, to keep its place.
};
// Either one, wherever the request is by now. One that was rejected needs none.
struct RequestCancelled {
  RequestId request = 0;
};
struct RequestEnded {
  RequestId request = 0;
};
struct EngineReady {
  Run run = 0;
};
enum class FailureKind {
  kRetryLater,  // Started again after `delay`, if it is wanted then.
  kGivenUp,     // Not before somebody asks for it, and `delay` has passed.
  kNeedsMore,   // It ran out of memory: as kRetryLater, with `needs`, or an eighth more.
};
// Its processes are gone and their memory is back. What it answered is forgotten: such a request
// that is to be answered elsewhere arrives again, with a new id.
struct EngineFailed {
  Run run = 0;
  FailureKind kind = FailureKind::kRetryLater;
  Error error;
  Duration delay{0};
  Needs needs{};  // Of the next start, if they are others: on another backend, say.
};
// After a Stop: its processes are gone and their memory is back.
struct EngineStopped {
  Run run = 0;
};
// What it really holds; replaces the plan's figures until the model's spec has other ones.
struct MemoryMeasured {
  Run run = 0;
  Needs needs;
};
// The user's commands; names that don't exist are ignored.
struct Load {
  std::string model;
};
struct Unload {  // Also ends its pin. It may finish what it answers; what waits is rejected.
  std::string model;
};
struct Pin {
  std::string model;
};
struct Unpin {
  std::string model;
};
struct Tick {};  // Only time has passed.

using Event = std::variant<PoolChanged, GroupsChanged, ModelsChanged, RequestArrived,
                           RequestCancelled, RequestEnded, EngineReady, EngineFailed, EngineStopped,
                           MemoryMeasured, Load, Unload, Pin, Unpin, Tick>;

}  // namespace yoke::scheduler
