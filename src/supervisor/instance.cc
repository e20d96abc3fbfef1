#include "supervisor/instance.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "engines/model_file.h"
#include "engines/model_format.h"
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
constexpr auto kStopGrace = 5s;
constexpr auto kLookInterval = 1s;
// A model moves back to a backend whose quarantine is over when nobody has used it for so long.
constexpr auto kIdleBeforeMove = 5min;
constexpr std::size_t kLinesForDiagnosis = 200;

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
                   Listener listener)
    : context_(context),
      model_(std::move(model)),
      choice_(std::move(choice)),
      listener_(std::move(listener)),
      log_(context.executor),
      standing_(model_.name, choice_.engines, context.history),
      wake_(context.executor) {
  route_.model = model_.name;
  route_.type = model_.options.server_type;
  route_.kind = engines::engine_kind_for(model_.options.model_path);
  route_.since = Clock::now();
  choose_engine();
}

// What the next life is started with.
void Instance::choose_engine() {
  standing_.look_at(engines::model_stamp(model_.options.model_path));
  if (choice_.engines.empty()) return;
  current_ = standing_.current();
  route_.engine = short_name(engine());
  route_.backend = engine().install.backend;
  const auto* machine = context_.machine ? &*context_.machine : nullptr;
  decisions_ =
      engines::decide(model_.options, route_.backend, machine, standing_.smaller(current_));
}

void Instance::set_state(InstanceState state) {
  route_.state = state;
  route_.since = Clock::now();
  if (state == InstanceState::kReady) route_.error.reset();
  listener_.on_route();
}

io::Task<void> Instance::run() {
  while (!stopping_) {
    auto living = live_once();
    const Ended ended = co_await std::move(living);
    child_.reset();
    route_.pid = 0;
    route_.key.clear();
    broken_.reset();
    forgiven_ = false;
    if (stopping_) break;
    if (ended.for_better) continue;
    const FallbackDecision next = decide(ended);
    route_.error = ended.error;
    if (next.remedy == Remedy::kGiveUp && route_.kind == EngineKind::kVllm) {
      route_.error->hint += fmt::format(
          " vLLM is the only engine for a HuggingFace model. To switch by hand, set model_path in "
          "[models.\"{}\"] to a GGUF version of it, and start `yoke serve` again.",
          model_.name);
    }
    failed_file_ = engines::model_stamp(model_.options.model_path);
    set_state(InstanceState::kFailed);
    log::error("Model {}: {}", model_.name, ended.error.text());
    if (next.remedy == Remedy::kGiveUp) {
      given_up_ = ended.ending.failure;
      auto waiting = wait_for_ask();
      co_await std::move(waiting);
    } else if (next.delay > 0ms) {
      log::info("Model {}: starting its engine again in {}.", model_.name,
                format_duration(next.delay));
      co_await wake_.wait_until(Clock::now() + next.delay);
    }
    ++route_.restarts;
  }
  set_state(InstanceState::kStopped);
}

FallbackDecision Instance::decide(const Ended& ended) {
  const FallbackDecision next =
      standing_.after(current_, ended.ending, ended.error.message, ended.evidence);
  if (next.remedy == Remedy::kNext) {
    const auto rest = standing_.left_out_for(current_);
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
  return {engine(), decisions_.options, model_.name,
          context_.machine ? &*context_.machine : nullptr, context_.guard};
}

Result<void> Instance::check_model() const {
  const auto& path = model_.options.model_path;
  return route_.kind == EngineKind::kVllm ? engines::check_model_directory(path)
                                          : engines::check_model_file(path);
}

ChildProcess::LineSink Instance::log_sink() {
  return [this](std::string_view line) {
    log_.append(line);
    listener_.on_log();
  };
}

void Instance::adopt(StartedEngine started) {
  child_ = std::move(started.child);
  route_.endpoint = std::move(started.endpoint);
  route_.key = std::move(started.key);
  route_.pid = child_->pid();
  for (const std::string& note : started.notes) log::warning("Model {}: {}", model_.name, note);
}

// One process from start to end.
io::Task<Instance::Ended> Instance::live_once() {
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
  auto checking = check_answers();
  if (auto ended = co_await std::move(checking)) co_return std::move(*ended);
  log::info("Model {}: ready after {}.", model_.name, format_duration(since(begun)));
  answers_before_ = route_.load->answers.load(std::memory_order_relaxed);
  set_state(InstanceState::kReady);
  auto serving = serve();
  co_return co_await std::move(serving);
}

// Nothing if it is ready.
io::Task<std::optional<Instance::Ended>> Instance::become_ready() {
  auto ending = child_->wait();
  auto becoming_ready = wait_until_ready(route_.endpoint, kLoadLimit);
  const auto first = co_await io::wait_for_one(std::move(ending), std::move(becoming_ready));
  if (first.index() == 0) co_return describe_end(std::get<0>(first), false);
  if (std::get<1>(first)) {
    child_->look_at_tree();
    co_return std::nullopt;
  }
  auto stopping = child_->stop(kStopGrace);
  co_await std::move(stopping);
  co_return load_error(FailureClass::kStartTimeout,
                       {kEngineFailed,
                        fmt::format("The engine was not ready within {}.",
                                    format_duration(std::chrono::milliseconds(kLoadLimit))),
                        "`yoke logs " + model_.name + "` shows what it was doing."});
}

// From ready to its end.
io::Task<Instance::Ended> Instance::serve() {
  idle_since_ = Clock::now();
  auto ending = child_->wait();
  auto watching = watch();
  const auto first = co_await io::wait_for_one(std::move(ending), std::move(watching));
  if (first.index() == 0) co_return describe_end(std::get<0>(first), true);
  const Order order = std::get<1>(first);
  if (order == Order::kBetter) {
    set_state(InstanceState::kDraining);
    auto stopping = child_->stop(kStopGrace);
    co_await std::move(stopping);
    Ended ended;
    ended.for_better = true;
    co_return ended;
  }
  const auto served = since(route_.since);
  auto stopping = child_->stop(0ms);
  co_await std::move(stopping);
  if (order == Order::kBroken) co_return describe_break();
  const std::string message = fmt::format("The engine made no progress for {} while it had work.",
                                          format_duration(context_.hang_limit));
  co_return Ended{
      {FailureClass::kGpuHang, true, served, answers_of_this_life()},
      {kEngineFailed, message, std::string(engines::summary_of(FailureClass::kGpuHang))}};
}

// Returns when the engine is to be ended, and why. It hangs if it has had work for the limit and
// nothing came of it: /health goes on saying 200 when a device is lost, so what counts is what
// comes out.
io::Task<Instance::Order> Instance::watch() {
  const auto limit = context_.hang_limit;
  const auto interval = limit > 0ms
                            ? std::clamp<std::chrono::milliseconds>(limit / 4, 10ms, kLookInterval)
                            : kLookInterval;
  std::uint64_t seen = 0;
  auto moved_at = Clock::now();
  while (true) {
    if (broken_) co_return Order::kBroken;
    if (is_time_for_better()) co_return Order::kBetter;
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

// A request that comes at this very moment is put to the next engine.
bool Instance::is_time_for_better() {
  const auto now = Clock::now();
  if (route_.load->active_requests.load(std::memory_order_relaxed) > 0) idle_since_ = now;
  if (standing_.current() >= current_) return false;
  return now - idle_since_ >= kIdleBeforeMove || (forgiven_ && idle_since_ < now);
}

std::uint64_t Instance::answers_of_this_life() const {
  return route_.load->answers.load(std::memory_order_relaxed) - answers_before_;
}

Instance::Ended Instance::load_error(FailureClass cls, Error error) const {
  return {{cls, false, 0ms, 0}, std::move(error)};
}

Instance::Ended Instance::describe_end(const ExitStatus& status, bool was_ready) {
  std::vector<std::string> lines;
  for (LogLine& line : log_.tail(kLinesForDiagnosis)) lines.push_back(std::move(line.text));
  const auto phase = was_ready ? engines::Phase::kReady : engines::Phase::kStarting;
  const engines::Failure failure = engines::classify_failure(status, lines, phase);
  const std::string message =
      fmt::format("The engine ended with {} while {} ({}).", status.describe(),
                  was_ready ? "serving" : "loading the model", engines::name_of(failure.cls));
  const ErrorCode code =
      failure.cls == FailureClass::kBadModel ? engines::kModelFileInvalid : kEngineFailed;
  return {{failure.cls, was_ready, was_ready ? since(route_.since) : 0ms, answers_of_this_life()},
          {code, message, failure.summary},
          failure.evidence_line};
}

// It lived on, but said that it can't compute any more.
Instance::Ended Instance::describe_break() {
  std::vector<std::string> lines;
  for (LogLine& line : log_.tail(kLinesForDiagnosis)) lines.push_back(std::move(line.text));
  lines.push_back(*broken_);
  const engines::Failure failure =
      engines::classify_failure(ExitStatus{}, lines, engines::Phase::kReady);
  const std::string message = fmt::format("The engine said that it can't compute any more ({}): {}",
                                          engines::name_of(failure.cls), *broken_);
  return {{failure.cls, true, since(route_.since), answers_of_this_life()},
          {kEngineFailed, message, failure.summary},
          *broken_};
}

io::Task<void> Instance::wait_for_ask() {
  asked_ = false;
  while (!asked_ && !stopping_) co_await wake_.wait_until(Clock::time_point::max());
}

void Instance::ask() {
  if (!given_up_) return;
  const bool new_file = engines::model_stamp(model_.options.model_path) != failed_file_;
  const bool worth_it =
      *given_up_ != FailureClass::kBadModel && since(route_.since) >= kRetryWhenAsked;
  if (!new_file && !worth_it) return;
  given_up_.reset();
  asked_ = true;
  wake_.notify_all();
}

void Instance::break_off(std::uint64_t start, std::string message) {
  if (route_.start != start || route_.state != InstanceState::kReady || broken_) return;
  broken_ = std::move(message);
  wake_.notify_all();
}

bool Instance::concerns(const store::Case& known) const {
  for (std::size_t i = 0; i < choice_.engines.size(); ++i) {
    if (standing_.of(i) == known) return true;
  }
  return false;
}

void Instance::forgive(std::string_view backend) {
  standing_.clear(backend);
  forgiven_ = true;
  wake_.notify_all();
}

io::Task<void> Instance::stop(std::chrono::milliseconds grace) {
  stopping_ = true;
  if (child_) {
    set_state(InstanceState::kDraining);
    auto stopping = child_->stop(grace);
    co_await std::move(stopping);
  }
  wake_.notify_all();
}

}  // namespace yoke::supervisor
