#include "io/context_pool.h"

#include <algorithm>
#include <pthread.h>

#include <fmt/format.h>

namespace yoke::io {

ContextPool::ContextPool(std::size_t threads, std::string name) {
  for (std::size_t i = 0; i < std::max<std::size_t>(threads, 1); ++i) {
    auto worker = std::make_unique<Worker>();
    boost::asio::io_context& context = worker->context;
    worker->thread = std::thread([&context, label = fmt::format("{}-{}", name, i).substr(0, 15)] {
      ::pthread_setname_np(::pthread_self(), label.c_str());
      context.run();
    });
    contexts_.push_back(std::move(worker));
  }
}

ContextPool::~ContextPool() { stop(); }

void ContextPool::stop() {
  for (auto& worker : contexts_) worker->context.stop();
  for (auto& worker : contexts_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
}

}  // namespace yoke::io
