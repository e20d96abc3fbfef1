// How an instance tells why its engine ended, and what it watches its RPC servers by.
#include <algorithm>
#include <csignal>

#include <fmt/format.h>

#include "base/units.h"
#include "engines/model_file.h"
#include "supervisor/instance.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using engines::FailureClass;

constexpr std::size_t kLinesForDiagnosis = 200;
// What a worker owes is no progress either: its own limit comes first.
constexpr auto kAfterRpcTimeout = 10s;

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

ErrorCode code_of(FailureClass cls) {
  if (cls == FailureClass::kBadModel) return engines::kModelFileInvalid;
  return cls == FailureClass::kWorkerLost ? kWorkerLost : kEngineFailed;
}

std::vector<std::string> texts_of(std::vector<LogLine> lines) {
  std::vector<std::string> texts;
  for (LogLine& line : lines) texts.push_back(std::move(line.text));
  return texts;
}

}  // namespace

Ended Instance::load_error(FailureClass cls, Error error) const {
  return {{cls, false, 0ms, 0}, std::move(error)};
}

Ended Instance::describe_end(const ExitStatus& status, bool was_ready) {
  const auto phase = was_ready ? engines::Phase::kReady : engines::Phase::kStarting;
  const engines::Failure failure =
      engines::classify_failure(status, texts_of(log_.tail(kLinesForDiagnosis)), phase);
  const std::string message =
      fmt::format("The engine ended with {} while {} ({}).", status.describe(),
                  was_ready ? "serving" : "loading the model", engines::name_of(failure.cls));
  return {{failure.cls, was_ready, was_ready ? since(route_.since) : 0ms, answers_of_this_life()},
          {code_of(failure.cls), message, failure.summary},
          failure.evidence_line,
          failure.cls == FailureClass::kOutOfMemory && status.signal != SIGKILL};
}

// It lived on, but said that it can't compute any more.
Ended Instance::describe_break(bool was_ready) {
  std::vector<std::string> lines = texts_of(log_.tail(kLinesForDiagnosis));
  lines.push_back(*broken_);
  const engines::Failure failure =
      engines::classify_failure(ExitStatus{}, lines, engines::Phase::kReady);
  const bool worker = failure.cls == FailureClass::kWorkerLost;
  const std::string message = fmt::format(
      "The engine said that it can't {} ({}){}", was_ready ? "compute any more" : "load the model",
      engines::name_of(failure.cls), worker ? "." : ": " + *broken_);
  return {{failure.cls, was_ready, was_ready ? since(route_.since) : 0ms, answers_of_this_life()},
          {code_of(failure.cls), message, failure.summary},
          worker ? failure.evidence_line : *broken_};
}

Ended Instance::describe_hang(std::chrono::milliseconds served) const {
  const FailureClass cls = rpc_ ? FailureClass::kWorkerLost : FailureClass::kGpuHang;
  const std::string message = fmt::format("The engine made no progress for {} while it had work.",
                                          format_duration(hang_limit()));
  return {{cls, true, served, answers_of_this_life()},
          {code_of(cls), message, std::string(engines::summary_of(cls))}};
}

// 0: it may take for ever.
std::chrono::milliseconds Instance::hang_limit() const {
  const auto limit = context_.hang_limit;
  if (limit == 0ms || !rpc_) return limit;
  return std::max<std::chrono::milliseconds>(limit,
                                             decisions_.options.rpc_timeout + kAfterRpcTimeout);
}

// When it is ready, and its modules are loaded.
void Instance::watch_rpc() {
  if (!rpc_) return;
  rpc_->look_at(route_.pid);
  if (const auto client = rpc_->client()) route_.rpc_client = config::name_of(*client);
  listener_.on_route();
}

}  // namespace yoke::supervisor
