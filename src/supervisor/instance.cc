#include "supervisor/instance.h"

#include <algorithm>
#include <sys/stat.h>

#include <boost/asio/ip/tcp.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "engines/llama_cpp.h"
#include "engines/model_file.h"
#include "http/client.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using engines::FailureClass;

// Hundreds of gigabytes from a slow disk take a while; an engine that dies is noticed at once.
constexpr auto kLoadLimit = 30min;
constexpr auto kHealthInterval = 50ms;
constexpr auto kRetryWhenAsked = 10s;
constexpr auto kStopGrace = 5s;
constexpr std::size_t kLinesForDiagnosis = 200;
// After a device was lost: a quarter of the 512 that llama.cpp itself takes.
constexpr int kSmallerBatch = 128;

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

// A port that is free now. Somebody may take it before the engine does; that is a failure class.
Result<std::uint16_t> free_port(boost::asio::any_io_executor executor) {
  using boost::asio::ip::tcp;
  boost::system::error_code error;
  tcp::acceptor acceptor(executor);
  acceptor.open(tcp::v4(), error);
  if (!error) acceptor.bind({boost::asio::ip::address_v4::loopback(), 0}, error);
  if (error) return fail(kIo, fmt::format("No free port on 127.0.0.1: {}.", error.message()));
  return acceptor.local_endpoint().port();
}

io::Task<engines::Health> ask_health(http::Endpoint endpoint) {
  http::ClientRequest request{std::move(endpoint), {}, {}};
  request.head.target = engines::kLlamaHealthPath;
  const http::ClientTimeouts timeouts{1s, 5s, 5s};
  const auto response = co_await http::send(std::move(request), timeouts);
  if (!response) co_return engines::Health::kLoading;  // It does not listen yet.
  co_return engines::health_of_status((*response)->head().status);
}

std::vector<std::string> backends_of(const EngineChoice& choice) {
  std::vector<std::string> backends;
  for (const Engine& engine : choice.engines) backends.push_back(engine.install.backend);
  if (backends.empty()) backends.emplace_back();
  return backends;
}

Error no_engine_error(const EngineChoice& choice) {
  std::string message = "No engine can run this model.";
  for (const engines::RuledOut& out : choice.ruled_out) {
    message += fmt::format(" {}: {}", out.backend, out.why);
  }
  return {engines::kEngineNotFound, std::move(message),
          "Name other backends for this model, or install what is missing with `make engine`."};
}

}  // namespace

Instance::Instance(boost::asio::any_io_executor executor, config::ModelConfig model,
                   EngineChoice choice, std::chrono::milliseconds hang_limit, Listener listener)
    : executor_(executor),
      model_(std::move(model)),
      choice_(std::move(choice)),
      hang_limit_(hang_limit),
      listener_(std::move(listener)),
      log_(executor),
      policy_(backends_of(choice_)),
      wake_(executor) {
  route_.model = model_.name;
  route_.type = model_.options.server_type;
  route_.since = Clock::now();
  choose_engine();
}

// What the next life is started with.
void Instance::choose_engine() {
  if (choice_.engines.empty()) return;
  current_ = policy_.current(Clock::now());
  const Engine& engine = choice_.engines[current_];
  const std::string& installed = engine.install.version;
  route_.engine =
      engine.install.name + " " + (installed.empty() ? engine.capabilities.version : installed);
  route_.backend = engine.install.backend;
}

void Instance::set_state(InstanceState state) {
  route_.state = state;
  route_.since = Clock::now();
  if (state == InstanceState::kReady) route_.error.reset();
  listener_.on_route();
}

io::Task<void> Instance::run() {
  while (!stopping_) {
    const Ended ended = co_await live_once();
    child_.reset();
    route_.pid = 0;
    if (stopping_) break;
    const FallbackDecision next = decide(ended.ending);
    route_.error = ended.error;
    failed_file_ = file_stamp();
    set_state(InstanceState::kFailed);
    log::error("Model {}: {}", model_.name, ended.error.text());
    if (next.remedy == Remedy::kGiveUp) {
      given_up_ = ended.ending.failure;
      co_await wait_for_ask();
    } else if (next.delay > 0ms) {
      log::info("Model {}: starting its engine again in {}.", model_.name,
                format_duration(next.delay));
      co_await wake_.wait_until(Clock::now() + next.delay);
    }
    ++route_.restarts;
  }
  set_state(InstanceState::kStopped);
}

FallbackDecision Instance::decide(const Ending& ending) {
  const FallbackDecision next = policy_.after(ending, Clock::now());
  if (next.remedy == Remedy::kNext) {
    const std::string& left = choice_.engines[current_].install.backend;
    const auto rest = policy_.quarantined_until(current_) - Clock::now();
    log::warning("Model {}: the backend {} is left out for {} ({}).", model_.name, left,
                 format_duration(std::chrono::ceil<std::chrono::seconds>(rest)),
                 engines::name_of(ending.failure));
  } else if (next.remedy == Remedy::kSmaller) {
    log::warning("Model {}: starting again with batches of {} tokens.", model_.name, kSmallerBatch);
  }
  return next;
}

Result<engines::CommandLine> Instance::command_line(std::uint16_t port) const {
  const Engine& engine = choice_.engines[current_];
  config::LoadOptions options = model_.options;
  if (policy_.smaller()) options.n_batch = options.n_ubatch = kSmallerBatch;
  YOKE_TRY(
      engines::CommandLine command,
      engines::llama_command_line(engine.install, engine.capabilities, options, model_.name, port));
  command.env.insert(command.env.end(), engine.env.begin(), engine.env.end());
  return command;
}

// One process from start to end.
io::Task<Instance::Ended> Instance::live_once() {
  choose_engine();
  set_state(InstanceState::kStarting);
  if (choice_.engines.empty()) {
    co_return load_error(FailureClass::kBadArguments, no_engine_error(choice_));
  }
  if (auto checked = engines::check_model_file(model_.options.model_path); !checked) {
    co_return load_error(FailureClass::kBadModel, std::move(checked.error()));
  }
  const auto port = free_port(executor_);
  if (!port) co_return load_error(FailureClass::kLoadFailed, port.error());
  route_.endpoint = http::Endpoint{"127.0.0.1", *port};
  auto command = command_line(*port);
  if (!command) co_return load_error(FailureClass::kBadArguments, std::move(command.error()));
  for (const std::string& note : command->notes) log::warning("Model {}: {}", model_.name, note);

  ChildSpec spec;
  spec.argv = std::move(command->argv);
  spec.env = std::move(command->env);
  // llama.cpp also loads backend modules from where it is started: let that be its own directory.
  spec.working_dir = choice_.engines[current_].install.dir;
  // Variables that act like flags, and Yoke's own, of which one is a key.
  spec.drop_env_prefixes = {std::string(engines::kLlamaEnvPrefix), "YOKE_"};
  auto sink = [this](std::string_view line) {
    log_.append(line);
    listener_.on_log();
  };
  auto child = ChildProcess::spawn(executor_, std::move(spec), std::move(sink));
  if (!child) co_return load_error(FailureClass::kLoadFailed, std::move(child.error()));
  child_ = std::move(*child);
  route_.pid = child_->pid();
  ++route_.start;
  const std::string backend = route_.backend.empty() ? "" : fmt::format(" ({})", route_.backend);
  log::info("Model {}: starting {}{} on port {} (pid {}).", model_.name, route_.engine, backend,
            *port, route_.pid);
  listener_.on_route();

  auto ending = child_->wait();
  auto becoming_ready = wait_until_ready();
  const auto first = co_await io::wait_for_one(std::move(ending), std::move(becoming_ready));
  if (first.index() == 0) co_return describe_end(std::get<0>(first), false);
  if (!std::get<1>(first)) {
    co_await child_->stop(kStopGrace);
    co_return load_error(FailureClass::kStartTimeout,
                         {kEngineFailed,
                          fmt::format("The engine was not ready within {}.",
                                      format_duration(std::chrono::milliseconds(kLoadLimit))),
                          "`yoke logs " + model_.name + "` shows what it was doing."});
  }
  log::info("Model {}: ready after {}.", model_.name, format_duration(since(route_.since)));
  answers_before_ = route_.load->answers.load(std::memory_order_relaxed);
  set_state(InstanceState::kReady);
  auto serving = serve();
  co_return co_await std::move(serving);
}

// From ready to its end.
io::Task<Instance::Ended> Instance::serve() {
  auto ending = child_->wait();
  auto hanging = wait_for_hang();
  const auto first = co_await io::wait_for_one(std::move(ending), std::move(hanging));
  if (first.index() == 0) co_return describe_end(std::get<0>(first), true);
  auto stopping = child_->stop(0ms);
  co_await std::move(stopping);
  const std::string message = fmt::format("The engine made no progress for {} while it had work.",
                                          format_duration(hang_limit_));
  co_return Ended{
      {FailureClass::kGpuHang, true, since(route_.since), answers_of_this_life()},
      {kEngineFailed, message, std::string(engines::summary_of(FailureClass::kGpuHang))}};
}

// Returns when the engine has had work for the limit and nothing came of it. /health goes on saying
// 200 when a device is lost, so what counts is what comes out.
io::Task<void> Instance::wait_for_hang() const {
  const auto interval = hang_limit_ > 0ms ? std::clamp(hang_limit_ / 4, 10ms, 1000ms) : 1h;
  std::uint64_t seen = 0;
  auto moved_at = Clock::now();
  while (true) {
    co_await io::sleep_for(interval);
    const std::uint64_t progress = route_.load->progress.load(std::memory_order_relaxed);
    const bool idle = route_.load->waiting.load(std::memory_order_relaxed) == 0;
    if (idle || progress != seen || hang_limit_ == 0ms) {
      seen = progress;
      moved_at = Clock::now();
    } else if (Clock::now() - moved_at >= hang_limit_) {
      co_return;
    }
  }
}

// False if that takes too long.
io::Task<bool> Instance::wait_until_ready() {
  const auto deadline = Clock::now() + kLoadLimit;
  while (Clock::now() < deadline) {
    const engines::Health health = co_await ask_health(route_.endpoint);
    if (health == engines::Health::kReady) co_return true;
    co_await io::sleep_for(kHealthInterval);
  }
  co_return false;
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
          {code, message, failure.summary}};
}

io::Task<void> Instance::wait_for_ask() {
  asked_ = false;
  while (!asked_ && !stopping_) co_await wake_.wait_until(Clock::time_point::max());
}

void Instance::ask() {
  if (!given_up_) return;
  const bool new_file = file_stamp() != failed_file_;
  const bool worth_it =
      *given_up_ != FailureClass::kBadModel && since(route_.since) >= kRetryWhenAsked;
  if (!new_file && !worth_it) return;
  given_up_.reset();
  asked_ = true;
  wake_.notify_all();
}

io::Task<void> Instance::stop(std::chrono::milliseconds grace) {
  stopping_ = true;
  if (child_) {
    set_state(InstanceState::kDraining);
    co_await child_->stop(grace);
  }
  wake_.notify_all();
}

// Tells one content of the model file from another without reading it; 0 if there is none.
std::uint64_t Instance::file_stamp() const {
  struct stat info{};
  if (::stat(model_.options.model_path.c_str(), &info) != 0) return 0;
  return static_cast<std::uint64_t>(info.st_mtim.tv_sec) * 1'000'000'007u +
         static_cast<std::uint64_t>(info.st_mtim.tv_nsec) +
         static_cast<std::uint64_t>(info.st_size);
}

}  // namespace yoke::supervisor
