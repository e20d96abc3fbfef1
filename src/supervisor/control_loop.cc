#include "supervisor/control_loop.h"

#include <algorithm>
#include <optional>

#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "base/nearest.h"
#include "base/published.h"
#include "engines/backend_choice.h"
#include "engines/install.h"
#include "io/call_on.h"
#include "io/context_pool.h"
#include "io/task_group.h"
#include "io/wait_list.h"
#include "supervisor/child_process.h"
#include "supervisor/engine_probe.h"
#include "supervisor/instance.h"
#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// After the engines are gone their tasks end by themselves.
constexpr auto kTaskEndLimit = 60s;
// A client sees a dead engine's connection close before the kernel has told of the process's end.
constexpr auto kDeathNotice = 500ms;

tl::unexpected<Error> no_such_model(const RouteTable& table, std::string_view model) {
  std::vector<std::string_view> names;
  for (const Route& route : table.routes) names.push_back(route.model);
  std::string hint = "GET /v1/models lists the models there are.";
  if (const auto name = nearest(model, names)) {
    hint = fmt::format("Did you mean '{}'?", *name);
  } else if (!names.empty() && names.size() <= 10) {
    hint = fmt::format("There is {}.", fmt::join(names, ", "));
  }
  return fail(kModelNotFound, fmt::format("There is no model '{}' here.", model), std::move(hint));
}

}  // namespace

struct ControlLoop::Impl {
  Impl() : executor(threads.at(0).get_executor()), tasks(executor), changed(executor) {}

  io::Task<Result<void>> begin(config::Config config, std::function<hardware::Machine()> detect);
  io::Task<Result<std::vector<Engine>>> probe_engines(std::vector<engines::EngineInstall> installs);
  io::Task<bool> end(std::chrono::milliseconds grace);
  io::Task<Result<ReadyEngine>> wait_ready(std::string model, Clock::time_point deadline,
                                           std::uint64_t failed_start);
  io::Task<Result<std::vector<LogEntry>>> wait_logs(std::string model, LogCursor cursor,
                                                    Clock::time_point deadline);
  Instance* find(std::string_view model);
  std::vector<Instance*> chosen(std::string_view model);
  void publish();

  io::ContextPool threads{1, "yoke-control"};
  asio::any_io_executor executor;
  io::TaskGroup tasks;
  io::WaitList changed;  // Any route or log.
  std::vector<std::unique_ptr<Instance>> instances;
  Published<RouteTable> table{RouteTable{}};
  bool stopping = false;
  bool stopped = false;  // By the thread that owns the ControlLoop.
};

void ControlLoop::Impl::publish() {
  RouteTable next;
  for (const auto& instance : instances) next.routes.push_back(instance->route());
  table.set(std::move(next));
  changed.notify_all();
}

Instance* ControlLoop::Impl::find(std::string_view model) {
  const auto found = std::ranges::find_if(
      instances, [model](const auto& instance) { return instance->route().model == model; });
  return found == instances.end() ? nullptr : found->get();
}

// Those that can be used; an error if there is none.
io::Task<Result<std::vector<Engine>>> ControlLoop::Impl::probe_engines(
    std::vector<engines::EngineInstall> installs) {
  std::vector<Engine> found;
  std::optional<Error> problem;
  for (engines::EngineInstall& install : installs) {
    auto probing = probe_llama_cpp(install);
    auto capabilities = co_await std::move(probing);
    if (capabilities) {
      found.push_back({std::move(install), std::move(*capabilities)});
      continue;
    }
    log::warning("An engine is left out: {}", capabilities.error().text());
    if (!problem) problem = std::move(capabilities.error());
  }
  if (found.empty() && problem) co_return fail(std::move(*problem));
  co_return found;
}

// The chosen engines with what they can do; those that can't be used are ruled out.
EngineChoice with_capabilities(engines::BackendChoice choice, const std::vector<Engine>& engines) {
  EngineChoice result{{}, std::move(choice.ruled_out)};
  for (engines::Candidate& candidate : choice.candidates) {
    const auto probed = std::ranges::find_if(engines, [&](const Engine& engine) {
      return engine.install.server == candidate.install.server;
    });
    if (probed == engines.end()) {
      result.ruled_out.push_back({candidate.install.backend, "The engine can't be used."});
    } else {
      result.engines.push_back({probed->install, probed->capabilities, std::move(candidate.env)});
    }
  }
  return result;
}

io::Task<Result<void>> ControlLoop::Impl::begin(config::Config config,
                                                std::function<hardware::Machine()> detect) {
  become_subreaper();
  YOKE_CO_TRY(const auto installs, engines::engines_of_each_backend(config.engines));
  auto probing = probe_engines(installs);
  YOKE_CO_TRY(const std::vector<Engine> engines, co_await std::move(probing));
  std::optional<hardware::Machine> machine;
  for (config::ModelConfig& model : config.models) {
    if (!machine && engines::needs_devices(installs, model.options)) machine = detect();
    auto choice = engines::choose_backends(installs, machine ? &*machine : nullptr, config.engines,
                                           model.options);
    Instance::Listener listener{[this] { publish(); }, [this] { changed.notify_all(); }};
    instances.push_back(std::make_unique<Instance>(
        executor, std::move(model), with_capabilities(std::move(choice), engines),
        config.server.hang_timeout, std::move(listener)));
  }
  publish();
  co_return Result<void>{};
}

io::Task<bool> ControlLoop::Impl::end(std::chrono::milliseconds grace) {
  stopping = true;
  changed.notify_all();
  for (const auto& instance : instances) tasks.spawn(instance->stop(grace));
  co_return co_await tasks.join(kTaskEndLimit);
}

io::Task<Result<ReadyEngine>> ControlLoop::Impl::wait_ready(std::string model,
                                                            Clock::time_point deadline,
                                                            std::uint64_t failed_start) {
  Instance* instance = find(model);
  if (instance == nullptr) co_return no_such_model(*table.get(), model);
  instance->ask();
  const auto alive_at = Clock::now() + kDeathNotice;
  while (true) {
    const Route& route = instance->route();
    if (stopping) co_return fail(kShuttingDown, "This server is shutting down.");
    const bool suspect = route.start == failed_start && Clock::now() < alive_at;
    if (route.state == InstanceState::kReady && !suspect) {
      co_return ReadyEngine{route.endpoint, route.start, route.load};
    }
    if (instance->has_given_up()) co_return fail(route.error.value());
    if (Clock::now() >= deadline) {
      co_return fail(kModelLoading, fmt::format("The model '{}' is still loading.", model),
                     "Try again in a while; `yoke logs " + model + "` shows how far it is.");
    }
    co_await changed.wait_until(suspect ? std::min(alive_at, deadline) : deadline);
  }
}

std::vector<Instance*> ControlLoop::Impl::chosen(std::string_view model) {
  std::vector<Instance*> all;
  for (const auto& instance : instances) {
    if (model.empty() || instance->route().model == model) all.push_back(instance.get());
  }
  return all;
}

io::Task<Result<std::vector<LogEntry>>> ControlLoop::Impl::wait_logs(std::string model,
                                                                     LogCursor cursor,
                                                                     Clock::time_point deadline) {
  const std::vector<Instance*> sources = chosen(model);
  if (sources.empty() && !model.empty()) co_return no_such_model(*table.get(), model);
  std::vector<LogEntry> entries;
  while (true) {
    for (Instance* source : sources) {
      const std::string& name = source->route().model;
      for (LogLine& line : source->log().since(cursor[name])) {
        entries.push_back({name, line.seq, line.time, std::move(line.text)});
      }
    }
    if (!entries.empty() || Clock::now() >= deadline) break;
    if (stopping) co_return fail(kShuttingDown, "This server is shutting down.");
    co_await changed.wait_until(deadline);
  }
  std::ranges::stable_sort(entries, {}, &LogEntry::time);
  co_return entries;
}

Result<std::unique_ptr<ControlLoop>> ControlLoop::start(const config::Config& config,
                                                        std::function<hardware::Machine()> detect) {
  auto impl = std::make_unique<Impl>();
  auto begun =
      asio::co_spawn(impl->executor, impl->begin(config, std::move(detect)), asio::use_future);
  std::unique_ptr<ControlLoop> loop(new ControlLoop(std::move(impl)));
  YOKE_CHECK(begun.get());
  return loop;
}

void ControlLoop::launch() {
  asio::post(impl_->executor, [impl = impl_.get()] {
    for (const auto& instance : impl->instances) impl->tasks.spawn(instance->run());
  });
}

ControlLoop::ControlLoop(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlLoop::~ControlLoop() { stop(0ms); }

std::shared_ptr<const RouteTable> ControlLoop::routes() const { return impl_->table.get(); }

io::Task<Result<ReadyEngine>> ControlLoop::await_ready(std::string model,
                                                       std::chrono::milliseconds limit,
                                                       std::uint64_t failed_start) {
  {
    const auto table = routes();
    const Route* route = table->find(model);
    if (route != nullptr && route->state == InstanceState::kReady && route->start != failed_start) {
      co_return ReadyEngine{route->endpoint, route->start, route->load};
    }
  }
  auto waiting = impl_->wait_ready(std::move(model), Clock::now() + limit, failed_start);
  auto call = io::call_on(impl_->executor, std::move(waiting));
  auto endpoint = co_await std::move(call);
  if (!endpoint) co_return fail(kCancelled, "The request was cancelled.");
  co_return std::move(*endpoint);
}

io::Task<Result<std::vector<LogEntry>>> ControlLoop::next_logs(std::string model, LogCursor& cursor,
                                                               std::chrono::milliseconds limit) {
  auto waiting = impl_->wait_logs(std::move(model), cursor, Clock::now() + limit);
  auto call = io::call_on(impl_->executor, std::move(waiting));
  auto entries = co_await std::move(call);
  if (!entries) co_return fail(kCancelled, "The request was cancelled.");
  if (*entries) {
    for (const LogEntry& entry : **entries) {
      std::uint64_t& seen = cursor[entry.model];
      seen = std::max(seen, entry.seq);
    }
  }
  co_return std::move(*entries);
}

io::Task<Result<std::vector<LogEntry>>> ControlLoop::last_logs(std::string model, LogCursor& cursor,
                                                               std::size_t count) {
  auto reading = next_logs(std::move(model), cursor, 0ms);
  auto entries = co_await std::move(reading);
  if (entries && entries->size() > count) {
    entries->erase(entries->begin(), entries->end() - static_cast<std::ptrdiff_t>(count));
  }
  co_return entries;
}

void ControlLoop::end_waits() {
  asio::post(impl_->executor, [impl = impl_.get()] {
    impl->stopping = true;
    impl->changed.notify_all();
  });
}

void ControlLoop::stop(std::chrono::milliseconds grace) {
  if (std::exchange(impl_->stopped, true)) return;
  asio::co_spawn(impl_->executor, impl_->end(grace), asio::use_future).get();
  impl_->threads.stop();
}

}  // namespace yoke::supervisor
