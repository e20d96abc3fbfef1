#include "supervisor/instance.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "engines/model_file.h"
#include "engines/model_format.h"
#include "engines/rpc_client.h"
#include "io/wait_for_one.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using engines::EngineKind;
using engines::FailureClass;

// Hundreds of gigabytes from a slow disk take a while; an engine that dies is noticed at once.
constexpr auto kLoadLimit = 30min;
constexpr auto kRetryWhenAsked = 10s;
// A file that no engine can load gets no better; a new one is noticed (has_new_file).
constexpr auto kRetryBadModel = 24h;
constexpr auto kSaveLimit = 60s;
constexpr auto kStopGrace = 5s;
constexpr auto kLookInterval = 1s;
// A model moves back to a backend whose quarantine is over when nobody has used it for so long.
constexpr auto kIdleBeforeMove = 5min;

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

Error no_engine_error(const EngineChoice& choice, EngineKind kind) {
  std::string message = "No engine can run this model.";
  for (const engines::RuledOut& out : choice.ruled_out) {
    message += fmt::format(" {}: {}", out.backend, out.why);
  }
  return {engines::kEngineNotFound, std::move(message),
          kind == EngineKind::kVllm
              ? "`yoke engine install vllm` installs it."
              : "Name other backends for this model, or install what is missing with `make "
                "engine`."};
}

FailureClass class_of_start_error(const Error& error) {
  return error.code == kSpawnFailed || error.code == kIo ? FailureClass::kLoadFailed
                                                         : FailureClass::kBadArguments;
}

}  // namespace

Instance::Instance(const InstanceContext& context, config::ModelConfig model, EngineChoice choice,
                   InstanceListener listener)
    : context_(context),
      listener_(std::move(listener)),
      log_(context.executor),
      wake_(context.executor) {
  route_.since = Clock::now();
  configure(std::move(model), std::move(choice));
}

void Instance::configure(config::ModelConfig model, EngineChoice choice) {
  model_ = std::move(model);
  choice_ = std::move(choice);
  standing_.emplace(model_.name, choice_.engines, context_.history);
  route_.model = model_.name;
  route_.type = model_.options.server_type;
  route_.kind = engines::engine_kind_for(model_.options.model_path);
  asked_for_more_ = false;
  choose_engine();
}

void Instance::choose_engine() {
  standing_->look_at(engines::model_stamp(model_.options.model_path));
  if (choice_.engines.empty()) return;
  current_ = standing_->current();
  route_.engine = short_name(engine());
  route_.backend = engine().install.backend;
  decisions_ = engines::decide(model_.options, route_.backend, &context_.budget,
                               standing_->smaller(current_));
  if (context_.pools != nullptr) {
    decisions_.options =
        context_.pools->placed(route_.kind, route_.backend, std::move(decisions_.options));
  }
  route_.n_ctx = decisions_.options.n_ctx;
}

std::optional<NextStart> Instance::next_start() const {
  if (choice_.engines.empty()) return std::nullopt;
  NextStart start{route_.kind, route_.backend, decisions_.options, std::nullopt};
  if (const int tokens = tokens_to_check(); tokens > 0) start.reference = reference_options(tokens);
  return start;
}

void Instance::set_state(InstanceState state) {
  route_.state = state;
  route_.since = Clock::now();
  if (state == InstanceState::kReady) route_.error.reset();
  listener_.on_route();
}

io::Task<LifeEnd> Instance::live() {
  stopping_ = false;  // Now, as stop() may be called before the task runs.
  return live_to_the_end();
}

io::Task<LifeEnd> Instance::live_to_the_end() {
  broken_.reset();
  rpc_.reset();
  forgiven_ = said_better_ = false;
  if (route_.state == InstanceState::kFailed) ++route_.restarts;
  auto living = live_once();
  const Ended ended = co_await std::move(living);
  contexts_.reset();
  child_.reset();
  route_.pid = 0;
  route_.held_bytes = 0;
  route_.key.clear();
  route_.rpc_client.clear();
  if (stopping_) {
    set_state(InstanceState::kStopped);
    co_return LifeEnd{};
  }
  co_return after_failure(ended);
}

LifeEnd Instance::after_failure(const Ended& ended) {
  const bool memory = ended.short_of_memory && !asked_for_more_ && listener_.has_neighbours();
  asked_for_more_ = asked_for_more_ || memory;
  const FallbackDecision next = memory ? FallbackDecision{Remedy::kSame, 0ms} : decide(ended);
  const bool given_up = next.remedy == Remedy::kGiveUp;
  route_.error = ended.error;
  if (given_up && route_.kind == EngineKind::kVllm) {
    route_.error->hint += fmt::format(
        " vLLM is the only engine for a HuggingFace model. To switch by hand, set model_path in "
        "[models.\"{}\"] to a GGUF version of it.",
        model_.name);
  }
  failed_file_ = engines::model_stamp(model_.options.model_path);
  set_state(InstanceState::kFailed);
  log::error("Model {}: {}", model_.name, ended.error.text());
  if (next.delay > 0ms) {
    log::info("Model {}: its engine is started again in {} at the earliest.", model_.name,
              format_duration(next.delay));
  }
  if (!given_up) choose_engine();  // For what the next start needs.
  const auto retry = ended.ending.failure == FailureClass::kBadModel
                         ? kRetryBadModel
                         : Clock::duration(kRetryWhenAsked);
  return {given_up ? LifeEnd::Next::kGivenUp
          : memory ? LifeEnd::Next::kNeedsMore
                   : LifeEnd::Next::kStartAgain,
          *route_.error,
          given_up ? std::chrono::duration_cast<std::chrono::milliseconds>(retry) : next.delay};
}

FallbackDecision Instance::decide(const Ended& ended) {
  const FallbackDecision next =
      standing_->after(current_, ended.ending, ended.error.message, ended.evidence);
  if (next.remedy == Remedy::kNext) {
    const auto rest = standing_->left_out_for(current_);
    log::warning("Model {}: the backend {} is left out for {} ({}).", model_.name,
                 engine().install.backend,
                 format_duration(std::chrono::ceil<std::chrono::seconds>(rest)),
                 engines::name_of(ended.ending.failure));
  } else if (next.remedy == Remedy::kSmaller) {
    log::warning("Model {}: starting again with smaller batches.", model_.name);
  }
  return next;
}

EngineStart Instance::engine_start() const {
  const bool saves = context_.saved_contexts != nullptr &&
                     model_.options.server_type == config::ServerType::kLlm &&
                     engine().capabilities.has("--slot-save-path");
  return {engine(),
          decisions_.options,
          model_.name,
          machine(),
          context_.guard,
          saves ? context_.saved_contexts->directory() : "",
          engines::rpc_hash_file(context_.rpc_hashes, decisions_.options)};
}

Result<void> Instance::check_model() const {
  const auto& path = model_.options.model_path;
  return route_.kind == EngineKind::kVllm ? engines::check_model_directory(path)
                                          : engines::check_model_file(path);
}

ChildProcess::LineSink Instance::log_sink() {
  return [this](std::string_view line) {
    log_.append(line);
    if (rpc_ && rpc_->see(line) && !broken_) {
      broken_ = line;
      wake_.notify_all();
    }
    listener_.on_log();
  };
}

void Instance::adopt(StartedEngine started) {
  child_ = std::move(started.child);
  route_.endpoint = std::move(started.endpoint);
  route_.key = std::move(started.key);
  route_.pid = child_->pid();
  if (route_.kind == EngineKind::kLlamaCpp && config::uses_rpc(decisions_.options)) {
    rpc_.emplace(model_.name, decisions_.options.rpc_client);
  }
  for (const std::string& note : started.notes) log::warning("Model {}: {}", model_.name, note);
  if (context_.saved_contexts != nullptr && !engine_start().slot_dir.empty()) {
    contexts_ = std::make_shared<contexts::EngineContexts>(
        *context_.saved_contexts, model_.name, context_key(), route_.endpoint, route_.key);
  }
}

// Whatever changes what a KV cache holds, or how.
contexts::ContextKey Instance::context_key() const {
  const config::LoadOptions& options = decisions_.options;
  const auto stamped = [](const std::filesystem::path& file) {
    return file.empty() ? "\n" : fmt::format("{} {}\n", file.string(), engines::model_stamp(file));
  };
  // A build of one's own may have the same version as the last.
  std::string key = stamped(options.model_path) + full_name(engine()) + "\n" +
                    stamped(engine().install.server) + route_.backend + "\n";
  key += fmt::format("{} {} {}\n", options.cache_type_k, options.cache_type_v,
                     config::name_of(options.flash_attn));
  key += stamped(options.mmproj) + stamped(options.draft_model);
  for (const auto& adapter : options.lora) key += stamped(adapter);
  for (const std::string& argument : options.extra_args) key += argument + "\n";
  return {std::move(key)};
}

// One process from start to end.
io::Task<Ended> Instance::live_once() {
  if (stopping_) co_return Ended{};
  choose_engine();
  set_state(InstanceState::kStarting);
  if (choice_.engines.empty()) {
    co_return load_error(FailureClass::kBadArguments, no_engine_error(choice_, route_.kind));
  }
  if (auto checked = check_model(); !checked) {
    co_return load_error(FailureClass::kBadModel, std::move(checked.error()));
  }
  if (const int tokens = tokens_to_check(); tokens > 0) {
    auto making = make_reference(tokens);
    if (auto ended = co_await std::move(making)) co_return std::move(*ended);
    if (stopping_) co_return Ended{};
  }
  auto started = start_engine(context_.executor, engine_start(), log_sink());
  if (!started) {
    const FailureClass cls = class_of_start_error(started.error());
    co_return load_error(cls, std::move(started.error()));
  }
  adopt(std::move(*started));
  ++route_.start;
  const std::string backend = route_.backend.empty() ? "" : fmt::format(" ({})", route_.backend);
  log::info("Model {}: starting {}{} on port {} (pid {}).", model_.name, route_.engine, backend,
            route_.endpoint.port, route_.pid);
  listener_.on_route();
  const auto begun = Clock::now();
  auto loading = become_ready();
  if (auto ended = co_await std::move(loading)) co_return std::move(*ended);
  watch_rpc();
  auto checking = check_answers();
  if (auto ended = co_await std::move(checking)) co_return std::move(*ended);
  auto breaking = end_if_broken();
  if (auto ended = co_await std::move(breaking)) co_return std::move(*ended);
  log::info("Model {}: ready after {}.", model_.name, format_duration(since(begun)));
  answers_before_ = answers_saved_ = route_.load->answers.load(std::memory_order_relaxed);
  ++route_.loads;
  if (!stopping_) {
    set_state(InstanceState::kReady);
    listener_.on_ready();
  }
  auto serving = serve();
  co_return co_await std::move(serving);
}

// Nothing if it is ready.
io::Task<std::optional<Ended>> Instance::become_ready() {
  auto ending = child_->wait();
  auto becoming_ready = ready_and_whole();
  const auto first = co_await io::wait_for_one(std::move(ending), std::move(becoming_ready));
  if (first.index() == 0) co_return describe_end(std::get<0>(first), false);
  if (std::get<1>(first)) {
    child_->look_at_tree();
    co_return std::nullopt;
  }
  auto breaking = end_if_broken();
  if (auto ended = co_await std::move(breaking)) co_return std::move(*ended);
  auto stopping = child_->stop(kStopGrace);
  co_await std::move(stopping);
  co_return load_error(FailureClass::kStartTimeout,
                       {kEngineFailed,
                        fmt::format("The engine was not ready within {}.",
                                    format_duration(std::chrono::milliseconds(kLoadLimit))),
                        "`yoke logs " + model_.name + "` shows what it was doing."});
}

// From ready to its end.
io::Task<Ended> Instance::serve() {
  idle_since_ = Clock::now();
  auto ending = child_->wait();
  auto watching = watch();
  const auto first = co_await io::wait_for_one(std::move(ending), std::move(watching));
  if (first.index() == 0) co_return describe_end(std::get<0>(first), true);
  const Order order = std::get<1>(first);
  const auto served = since(route_.since);
  auto stopping = child_->stop(0ms);
  co_await std::move(stopping);
  co_return order == Order::kBroken ? describe_break(true) : describe_hang(served);
}

// Nothing if it can compute.
io::Task<std::optional<Ended>> Instance::end_if_broken() {
  if (!broken_ || stopping_) co_return std::nullopt;
  auto stopping = child_->stop(0ms);
  co_await std::move(stopping);
  co_return describe_break(false);
}

// False after the limit, or as soon as it can't compute.
io::Task<bool> Instance::ready_and_whole() {
  const auto until_broken = [](Instance& self) -> io::Task<void> {
    while (!self.broken_) co_await self.wake_.wait_until(Clock::time_point::max());
  };
  auto becoming_ready = wait_until_ready(route_.endpoint, kLoadLimit);
  auto breaking = until_broken(*this);
  const auto first = co_await io::wait_for_one(std::move(becoming_ready), std::move(breaking));
  co_return first.index() == 0 && std::get<0>(first) && !broken_;
}

// Returns when the engine is to be ended, and why. It hangs if it has had work for the limit and
// nothing came of it: /health goes on saying 200 when a device is lost, so what counts is what
// comes out.
io::Task<Instance::Order> Instance::watch() {
  const auto limit = hang_limit();
  const auto interval = limit > 0ms
                            ? std::clamp<std::chrono::milliseconds>(limit / 4, 10ms, kLookInterval)
                            : kLookInterval;
  std::uint64_t seen = 0;
  auto moved_at = Clock::now();
  while (true) {
    if (broken_) co_return Order::kBroken;
    look_for_idleness();
    if (!said_better_ && is_time_for_better()) {
      said_better_ = true;
      listener_.on_better();
    }
    if (is_time_to_save()) {
      auto saving = save_contexts();
      co_await std::move(saving);
      moved_at = Clock::now();
    }
    co_await wake_.wait_until(Clock::now() + interval);
    const std::uint64_t progress = route_.load->progress.load(std::memory_order_relaxed);
    const bool idle = route_.load->waiting.load(std::memory_order_relaxed) == 0;
    if (idle || progress != seen || limit == 0ms) {
      seen = progress;
      moved_at = Clock::now();
    } else if (Clock::now() - moved_at >= limit) {
      co_return Order::kHung;
    }
  }
}

void Instance::look_for_idleness() {
  const std::uint64_t answers = route_.load->answers.load(std::memory_order_relaxed);
  const bool busy = route_.load->active_requests.load(std::memory_order_relaxed) > 0;
  if (busy || answers != answers_seen_) idle_since_ = Clock::now();
  answers_seen_ = answers;
}

bool Instance::is_time_for_better() const {
  const auto now = Clock::now();
  if (standing_->current() >= current_) return false;
  return now - idle_since_ >= kIdleBeforeMove || (forgiven_ && idle_since_ < now);
}

bool Instance::is_time_to_save() const {
  const auto& load = *route_.load;
  return contexts_ && !stopping_ && context_.save_after > 0ms &&
         load.answers.load(std::memory_order_relaxed) != answers_saved_ &&
         load.active_requests.load(std::memory_order_relaxed) == 0 &&
         Clock::now() - idle_since_ >= context_.save_after;
}

// One at a time. What is there already is not written again.
io::Task<void> Instance::save_contexts() {
  const auto contexts = contexts_;
  const auto deadline = Clock::now() + kSaveLimit;
  while (saving_ && Clock::now() < deadline) co_await wake_.wait_until(deadline);
  if (saving_ || !contexts) co_return;
  struct Saving {
    Instance& instance;
    explicit Saving(Instance& saves) : instance(saves) { instance.saving_ = true; }
    ~Saving() {
      instance.saving_ = false;
      instance.wake_.notify_all();
    }
    Saving(const Saving&) = delete;
    Saving& operator=(const Saving&) = delete;
  };
  const Saving saving(*this);
  answers_saved_ = route_.load->answers.load(std::memory_order_relaxed);
  auto writing = contexts->save(kSaveLimit);
  co_await std::move(writing);
}

std::uint64_t Instance::answers_of_this_life() const {
  return route_.load->answers.load(std::memory_order_relaxed) - answers_before_;
}

bool Instance::has_new_file() const {
  return !failed_file_.empty() && engines::model_stamp(model_.options.model_path) != failed_file_;
}

void Instance::break_off(std::uint64_t start, std::string message) {
  if (route_.start != start || route_.state != InstanceState::kReady || broken_) return;
  broken_ = std::move(message);
  wake_.notify_all();
}

bool Instance::concerns(const store::Case& known) const {
  for (std::size_t i = 0; i < choice_.engines.size(); ++i) {
    if (standing_->of(i) == known) return true;
  }
  return false;
}

void Instance::forgive(std::string_view backend) {
  standing_->clear(backend);
  forgiven_ = true;
  wake_.notify_all();
}

io::Task<void> Instance::stop(std::chrono::milliseconds grace) {
  stopping_ = true;  // Now, and not when the task runs.
  return end_life(grace);
}

io::Task<void> Instance::end_life(std::chrono::milliseconds grace) {
  const bool was_ready = route_.state == InstanceState::kReady;
  if (child_) {
    set_state(InstanceState::kDraining);
    if (was_ready) {
      auto saving = save_contexts();
      co_await std::move(saving);
    }
  }
  if (child_) {
    auto stopping = child_->stop(grace);
    co_await std::move(stopping);
  }
  wake_.notify_all();
}

}  // namespace yoke::supervisor
