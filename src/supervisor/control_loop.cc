#include "supervisor/control_loop.h"

#include <algorithm>
#include <optional>

#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "base/nearest.h"
#include "base/published.h"
#include "io/call_on.h"
#include "io/context_pool.h"
#include "io/task_group.h"
#include "io/wait_list.h"
#include "supervisor/engine_set.h"
#include "supervisor/guard.h"
#include "supervisor/history.h"
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

ReadyEngine ready_engine(const Route& route) {
  return {route.endpoint, route.key, route.kind, route.start, route.load};
}

}  // namespace

struct ControlLoop::Impl {
  Impl() : executor(threads.at(0).get_executor()), tasks(executor), changed(executor) {}

  io::Task<Result<void>> begin(config::Config config, std::function<hardware::Machine()> detect);
  io::Task<bool> end(std::chrono::milliseconds grace);
  io::Task<Result<ReadyEngine>> wait_ready(std::string model, Clock::time_point deadline,
                                           std::uint64_t failed_start);
  io::Task<Result<std::vector<LogEntry>>> wait_logs(std::string model, LogCursor cursor,
                                                    Clock::time_point deadline);
  io::Task<Result<Explanation>> explain(std::string model);
  io::Task<Result<std::vector<store::Quarantine>>> quarantines();
  io::Task<Result<std::size_t>> clear_quarantines(std::string model, std::string backend);
  Instance* find(std::string_view model);
  std::vector<Instance*> chosen(std::string_view model);
  void publish();

  io::ContextPool threads{1, "yoke-control"};
  asio::any_io_executor executor;
  io::TaskGroup tasks;
  io::WaitList changed;  // Any route or log.
  std::unique_ptr<History> history;
  std::unique_ptr<Guard> guard;
  std::optional<hardware::Machine> machine;
  std::optional<InstanceContext> context;
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

io::Task<Result<void>> ControlLoop::Impl::begin(config::Config config,
                                                std::function<hardware::Machine()> detect) {
  become_subreaper();
  YOKE_CO_TRY(history, History::open(config.server.state_dir));
  auto probing = probe_engines(config);
  YOKE_CO_TRY(EngineSet engines, co_await std::move(probing));
  const bool look = std::ranges::any_of(config.models, [&](const config::ModelConfig& model) {
    return needs_devices(engines, model.options);
  });
  if (look) machine = detect();
  auto asking = ask_devices(engines, machine ? &*machine : nullptr, config);
  co_await std::move(asking);
  auto started = Guard::start();
  if (started) {
    guard = std::move(*started);
  } else {
    log::warning("Should Yoke be killed, engines may outlive it: {}", started.error().text());
  }
  context.emplace(
      InstanceContext{executor, config.server.hang_timeout, machine, *history, guard.get()});
  for (config::ModelConfig& model : config.models) {
    auto choice =
        choose_engines(engines, machine ? &*machine : nullptr, config.engines, model.options);
    Instance::Listener listener{[this] { publish(); }, [this] { changed.notify_all(); }};
    instances.push_back(std::make_unique<Instance>(*context, std::move(model), std::move(choice),
                                                   std::move(listener)));
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
      co_return ready_engine(route);
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

io::Task<Result<Explanation>> ControlLoop::Impl::explain(std::string model) {
  const Instance* instance = find(model);
  if (instance == nullptr) co_return no_such_model(*table.get(), model);
  co_return instance->explain();
}

io::Task<Result<std::vector<store::Quarantine>>> ControlLoop::Impl::quarantines() {
  auto found = history->quarantines(std::chrono::system_clock::now());
  std::erase_if(found, [this](const store::Quarantine& quarantine) {
    const Instance* instance = find(quarantine.of.model);
    return instance == nullptr || !instance->concerns(quarantine.of);
  });
  co_return found;
}

io::Task<Result<std::size_t>> ControlLoop::Impl::clear_quarantines(std::string model,
                                                                   std::string backend) {
  const std::vector<Instance*> meant = chosen(model);
  const std::size_t cleared = history->clear(model, backend);
  // One of a model that was taken out of the configuration may be cleared too.
  if (meant.empty() && !model.empty() && cleared == 0) co_return no_such_model(*table.get(), model);
  for (Instance* instance : meant) instance->forgive(backend);
  co_return cleared;
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
      co_return ready_engine(*route);
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

void ControlLoop::report_broken(const std::string& model, std::uint64_t start,
                                const std::string& message) {
  asio::post(impl_->executor, [impl = impl_.get(), model, start, message] {
    if (Instance* instance = impl->find(model)) instance->break_off(start, message);
  });
}

io::Task<Result<Explanation>> ControlLoop::explain(std::string model) {
  auto call = io::call_on(impl_->executor, impl_->explain(std::move(model)));
  auto explanation = co_await std::move(call);
  if (!explanation) co_return fail(kCancelled, "The request was cancelled.");
  co_return std::move(*explanation);
}

io::Task<Result<std::vector<store::Quarantine>>> ControlLoop::quarantines() {
  auto call = io::call_on(impl_->executor, impl_->quarantines());
  auto found = co_await std::move(call);
  if (!found) co_return fail(kCancelled, "The request was cancelled.");
  co_return std::move(*found);
}

io::Task<Result<std::size_t>> ControlLoop::clear_quarantines(std::string model,
                                                             std::string backend) {
  auto call =
      io::call_on(impl_->executor, impl_->clear_quarantines(std::move(model), std::move(backend)));
  auto cleared = co_await std::move(call);
  if (!cleared) co_return fail(kCancelled, "The request was cancelled.");
  co_return std::move(*cleared);
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
