#include "supervisor/control_loop.h"

#include <algorithm>
#include <atomic>
#include <optional>

#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>

#include "base/log.h"
#include "base/published.h"
#include "contexts/saved_contexts.h"
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

}  // namespace

struct ControlLoop::Impl {
  explicit Impl(Detect detects)
      : executor(threads.at(0).get_executor()),
        tasks(executor),
        changed(executor),
        detect(std::move(detects)) {}

  io::Task<Result<void>> begin(config::Config config);
  io::Task<bool> end(std::chrono::milliseconds grace);
  io::Task<Result<Reload>> reload(config::Config config);
  io::Task<Result<std::vector<Residents::Wanted>>> choose(const config::Config& config);
  io::Task<Result<std::vector<LogEntry>>> wait_logs(std::string model, LogCursor cursor,
                                                    Clock::time_point deadline);
  io::Task<Result<Explanation>> explain(std::string model);
  io::Task<Result<std::vector<store::Quarantine>>> quarantines();
  io::Task<Result<std::size_t>> clear_quarantines(std::string model, std::string backend);
  io::Task<Result<Residency>> residency();
  using Command = Result<void> (Residents::*)(std::string_view model);
  io::Task<Result<void>> command(Command what, std::string model);
  void open_contexts(const config::Config& config);
  void plan_into(const config::MemoryConfig& limits);
  void publish();

  io::ContextPool threads{1, "yoke-control"};
  asio::any_io_executor executor;
  io::TaskGroup tasks;
  io::WaitList changed;  // Any route or log.
  const Detect detect;
  std::unique_ptr<History> history;
  std::unique_ptr<Guard> guard;
  std::unique_ptr<contexts::SavedContexts> saved_contexts;
  std::optional<InstanceContext> context;
  config::MemoryConfig memory;
  std::optional<MemoryPools> pools;
  std::unique_ptr<Residents> residents;
  Published<RouteTable> table{RouteTable{}};
  std::atomic<scheduler::RequestId> last_request{0};
  bool stopping = false;
  bool stopped = false;  // By the thread that owns the ControlLoop.
};

void ControlLoop::Impl::publish() {
  if (residents) table.set(residents->routes());
  changed.notify_all();
}

// The engines that each model may run with, as they are installed now.
io::Task<Result<std::vector<Residents::Wanted>>> ControlLoop::Impl::choose(
    const config::Config& config) {
  auto probing = probe_engines(config);
  YOKE_CO_TRY(EngineSet engines, co_await std::move(probing));
  const bool look = std::ranges::any_of(config.models, [&](const config::ModelConfig& model) {
    return needs_devices(engines, model.options);
  });
  if (look && !context->gpus_known) {
    // What is free for models is what was free before the first of them.
    hardware::Host host = std::move(context->machine.host);
    context->machine = detect(true);
    context->machine.host = std::move(host);
    context->gpus_known = true;
    pools.reset();
  }
  const hardware::Machine* machine = context->gpus_known ? &context->machine : nullptr;
  auto asking = ask_devices(engines, machine, config);
  co_await std::move(asking);
  std::vector<Residents::Wanted> wanted;
  for (const config::ModelConfig& model : config.models) {
    wanted.push_back({model, choose_engines(engines, machine, config.engines, model.options)});
  }
  co_return wanted;
}

void ControlLoop::Impl::open_contexts(const config::Config& config) {
  if (config.contexts.max_bytes == 0) return;
  auto opened = contexts::SavedContexts::open(config.server.state_dir / "contexts",
                                              config.contexts.max_bytes);
  if (opened) {
    saved_contexts = std::move(*opened);
  } else {
    log::warning("No KV caches are kept while models are unloaded: {}", opened.error().text());
  }
}

// The machine's memory is as it was when none of Yoke's engines ran.
void ControlLoop::Impl::plan_into(const config::MemoryConfig& limits) {
  memory = limits;
  pools.emplace(context->machine, memory);
  context->budget = context->machine;
  auto& limit = context->budget.host.memory.limit;
  if (memory.host) limit = std::min(limit.value_or(*memory.host), *memory.host);
  context->pools = &*pools;
  for (const std::string& note : pools->notes()) log::warning("{}", note);
}

io::Task<Result<void>> ControlLoop::Impl::begin(config::Config config) {
  become_subreaper();
  YOKE_CO_TRY(history, History::open(config.server.state_dir));
  open_contexts(config);
  auto started = Guard::start();
  if (started) {
    guard = std::move(*started);
  } else {
    log::warning("Should Yoke be killed, engines may outlive it: {}", started.error().text());
  }
  context.emplace(InstanceContext{executor,
                                  config.server.hang_timeout,
                                  config.contexts.save_after,
                                  detect(false),
                                  false,
                                  {},
                                  *history,
                                  guard.get(),
                                  saved_contexts.get(),
                                  nullptr,
                                  config.server.state_dir / "rpc-hashes"});
  auto choosing = choose(config);
  YOKE_CO_TRY(auto wanted, co_await std::move(choosing));
  plan_into(config.memory);
  Residents::Listener listener{[this] { publish(); }, [this] { changed.notify_all(); }};
  residents = std::make_unique<Residents>(*context, tasks, std::move(listener));
  residents->configure(*pools, config.groups, std::move(wanted));
  publish();
  co_return Result<void>{};
}

io::Task<Result<Reload>> ControlLoop::Impl::reload(config::Config config) {
  if (stopping) co_return fail(kShuttingDown, "This server is shutting down.");
  auto choosing = choose(config);
  YOKE_CO_TRY(auto wanted, co_await std::move(choosing));
  if (stopping) co_return fail(kShuttingDown, "This server is shutting down.");
  context->hang_limit = config.server.hang_timeout;
  context->save_after = config.contexts.save_after;
  if (!pools || memory != config.memory) plan_into(config.memory);
  co_return residents->configure(*pools, config.groups, std::move(wanted));
}

io::Task<bool> ControlLoop::Impl::end(std::chrono::milliseconds grace) {
  stopping = true;
  changed.notify_all();
  if (residents) residents->stop_all(grace);
  co_return co_await tasks.join(kTaskEndLimit);
}

io::Task<Result<std::vector<LogEntry>>> ControlLoop::Impl::wait_logs(std::string model,
                                                                     LogCursor cursor,
                                                                     Clock::time_point deadline) {
  std::vector<LogEntry> entries;
  while (true) {
    std::vector<Instance*> sources;
    if (model.empty()) {
      sources = residents->all();
    } else {
      YOKE_CO_TRY(Instance* const source, residents->find(model));
      sources.push_back(source);
    }
    for (const Instance* source : sources) {
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
  YOKE_CO_TRY(const Instance* const instance, residents->find(model));
  co_return instance->explain();
}

io::Task<Result<std::vector<store::Quarantine>>> ControlLoop::Impl::quarantines() {
  auto found = history->quarantines(std::chrono::system_clock::now());
  std::erase_if(found, [this](const store::Quarantine& quarantine) {
    const auto instance = residents->find(quarantine.of.model);
    return !instance || !(*instance)->concerns(quarantine.of);
  });
  co_return found;
}

io::Task<Result<std::size_t>> ControlLoop::Impl::clear_quarantines(std::string model,
                                                                   std::string backend) {
  const std::size_t cleared = history->clear(model, backend);
  if (model.empty()) {
    for (const Route& route : residents->routes().routes) {
      std::ignore = residents->forgive(route.model, backend);
    }
    co_return cleared;
  }
  // One of a model that was taken out of the configuration may be cleared too.
  auto forgiven = residents->forgive(model, backend);
  if (!forgiven && cleared == 0) co_return fail(std::move(forgiven.error()));
  co_return cleared;
}

io::Task<Result<Residency>> ControlLoop::Impl::residency() { co_return residents->residency(); }

io::Task<Result<void>> ControlLoop::Impl::command(Command what, std::string model) {
  if (stopping) co_return fail(kShuttingDown, "This server is shutting down.");
  co_return ((*residents).*what)(model);
}

namespace {

// A task on the control loop's thread; kCancelled if the caller is cancelled before its end.
template <class T>
io::Task<Result<T>> on_loop(asio::any_io_executor executor, io::Task<Result<T>> task) {
  auto call = io::call_on(executor, std::move(task));
  auto result = co_await std::move(call);
  if (!result) co_return fail(kCancelled, "The request was cancelled.");
  co_return std::move(*result);
}

}  // namespace

Result<std::unique_ptr<ControlLoop>> ControlLoop::start(const config::Config& config,
                                                        Detect detect) {
  auto impl = std::make_shared<Impl>(std::move(detect));
  auto begun = asio::co_spawn(impl->executor, impl->begin(config), asio::use_future);
  std::unique_ptr<ControlLoop> loop(new ControlLoop(std::move(impl)));
  YOKE_CHECK(begun.get());
  return loop;
}

void ControlLoop::launch() {
  asio::post(impl_->executor, [impl = impl_.get()] { impl->residents->launch(); });
}

ControlLoop::ControlLoop(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlLoop::~ControlLoop() { stop(0ms); }

std::shared_ptr<const RouteTable> ControlLoop::routes() const { return impl_->table.get(); }

io::Task<Result<Admission>> ControlLoop::admit(std::string model, AdmitOptions options) {
  const scheduler::RequestId request = ++impl_->last_request;
  // Made before the request is known, so that it is given back whatever happens from here on.
  Place place([impl = std::weak_ptr<Impl>(impl_), request] {
    const auto there = impl.lock();
    if (!there) return;
    asio::post(there->executor, [impl, request] {
      if (const auto here = impl.lock()) here->residents->give_back(request);
    });
  });
  auto waiting = on_loop(impl_->executor,
                         impl_->residents->wait_for_place(request, std::move(model), options));
  YOKE_CO_TRY(ReadyEngine engine, co_await std::move(waiting));
  co_return Admission{std::move(engine), std::move(place)};
}

io::Task<Result<Residency>> ControlLoop::residency() {
  auto asking = on_loop(impl_->executor, impl_->residency());
  co_return co_await std::move(asking);
}

io::Task<Result<void>> ControlLoop::load(std::string model) {
  auto doing = on_loop(impl_->executor, impl_->command(&Residents::load, std::move(model)));
  co_return co_await std::move(doing);
}

io::Task<Result<void>> ControlLoop::unload(std::string model) {
  auto doing = on_loop(impl_->executor, impl_->command(&Residents::unload, std::move(model)));
  co_return co_await std::move(doing);
}

io::Task<Result<void>> ControlLoop::pin(std::string model) {
  auto doing = on_loop(impl_->executor, impl_->command(&Residents::pin, std::move(model)));
  co_return co_await std::move(doing);
}

io::Task<Result<void>> ControlLoop::unpin(std::string model) {
  auto doing = on_loop(impl_->executor, impl_->command(&Residents::unpin, std::move(model)));
  co_return co_await std::move(doing);
}

io::Task<Result<Reload>> ControlLoop::reload(config::Config config) {
  auto doing = on_loop(impl_->executor, impl_->reload(std::move(config)));
  co_return co_await std::move(doing);
}

io::Task<Result<std::vector<LogEntry>>> ControlLoop::next_logs(std::string model, LogCursor& cursor,
                                                               std::chrono::milliseconds limit) {
  auto waiting = impl_->wait_logs(std::move(model), cursor, Clock::now() + limit);
  auto call = on_loop(impl_->executor, std::move(waiting));
  YOKE_CO_TRY(auto entries, co_await std::move(call));
  for (const LogEntry& entry : entries) {
    std::uint64_t& seen = cursor[entry.model];
    seen = std::max(seen, entry.seq);
  }
  co_return entries;
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
    if (const auto instance = impl->residents->find(model)) (*instance)->break_off(start, message);
  });
}

io::Task<Result<Explanation>> ControlLoop::explain(std::string model) {
  auto asking = on_loop(impl_->executor, impl_->explain(std::move(model)));
  co_return co_await std::move(asking);
}

io::Task<Result<std::vector<store::Quarantine>>> ControlLoop::quarantines() {
  auto asking = on_loop(impl_->executor, impl_->quarantines());
  co_return co_await std::move(asking);
}

io::Task<Result<std::size_t>> ControlLoop::clear_quarantines(std::string model,
                                                             std::string backend) {
  auto clearing =
      on_loop(impl_->executor, impl_->clear_quarantines(std::move(model), std::move(backend)));
  co_return co_await std::move(clearing);
}

void ControlLoop::end_waits() {
  asio::post(impl_->executor, [impl = impl_.get()] {
    impl->stopping = true;
    impl->changed.notify_all();
    impl->residents->end_waits();
  });
}

void ControlLoop::stop(std::chrono::milliseconds grace) {
  if (std::exchange(impl_->stopped, true)) return;
  asio::co_spawn(impl_->executor, impl_->end(grace), asio::use_future).get();
  impl_->threads.stop();
}

}  // namespace yoke::supervisor
