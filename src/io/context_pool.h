// ContextPool: one io_context with one thread per core. Whatever is spawned on a context stays on
// its thread, so that a connection needs no lock. Owned by main; any thread may call it.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

namespace yoke::io {

class ContextPool {
 public:
  // Starts `threads` contexts (at least one). Their threads are called "NAME-0", ...; at most 15
  // characters of that show in tools.
  explicit ContextPool(std::size_t threads, std::string name = "yoke-io");
  ~ContextPool();  // stop()
  ContextPool(const ContextPool&) = delete;
  ContextPool& operator=(const ContextPool&) = delete;

  std::size_t size() const { return contexts_.size(); }
  boost::asio::io_context& at(std::size_t index) { return contexts_[index]->context; }
  // The contexts in turn.
  std::size_t next_index() { return turn_.fetch_add(1, std::memory_order_relaxed) % size(); }

  // Stops the contexts wherever they are and joins their threads; unfinished tasks are destroyed
  // with the pool. Finish them first.
  void stop();

 private:
  struct Worker {
    boost::asio::io_context context{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{
        context.get_executor()};
    std::thread thread;
  };
  std::vector<std::unique_ptr<Worker>> contexts_;
  std::atomic<std::size_t> turn_{0};
};

}  // namespace yoke::io
