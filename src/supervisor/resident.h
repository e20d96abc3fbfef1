// What Residents keeps of a model, and of a request that waits. Only for this module's sources.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <boost/asio/any_io_executor.hpp>

#include "io/wait_list.h"
#include "supervisor/memory_use.h"
#include "supervisor/residents.h"

namespace yoke::supervisor {

// A model. Its instance may still live a life of a configuration that is over.
struct Residents::Resident {
  Wanted wanted;
  std::unique_ptr<Instance> instance;
  bool outdated = false;  // The instance is to be configured anew before its next life.
  std::uint64_t revision = 1;
  scheduler::Run run = 0;  // Of the present life; 0: none.
  bool over = false;       // That life; its memory may not be back yet.
  scheduler::Needs planned;
  scheduler::Run measured_run = 0;
  std::uint64_t measured_answers = 0;
  std::optional<MemoryUse> last_use;  // Of this life.
};

struct Residents::Waiter {
  explicit Waiter(boost::asio::any_io_executor executor) : answered(std::move(executor)) {}
  std::optional<Result<ReadyEngine>> result;
  io::WaitList answered;
};

}  // namespace yoke::supervisor
