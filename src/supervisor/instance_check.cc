// How an instance makes sure that its engine computes what the CPU computes.
#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "engines/model_file.h"
#include "engines/model_format.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"
#include "supervisor/answer_probe.h"
#include "supervisor/instance.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using engines::FailureClass;

constexpr std::string_view kCpu = "cpu";
constexpr auto kAnswerLimit = 5min;
// A large model on a CPU reads a few tokens a second.
constexpr auto kReferenceLimit = 30min;
constexpr auto kStopGrace = 5s;
constexpr auto kDeathNotice = 500ms;
// Reading a larger file twice, and its prompt on the CPU, takes minutes: only if the user asks.
constexpr std::uint64_t kMaxBytesUnasked = 16ull << 30;
constexpr int kRoomForAnswer = 64;

}  // namespace

// Whether this life's answers are to be compared.
bool Instance::checks_answers() const {
  const auto& options = model_.options;
  // They may change what is computed, or where, and the CPU's engine does not get them.
  const bool changed = !options.extra_args.empty() || !options.rpc_servers.empty();
  if (changed && options.answer_check != config::AnswerCheck::kOn) return false;
  return route_.kind == engines::EngineKind::kLlamaCpp && !route_.backend.empty() &&
         route_.backend != kCpu && options.server_type == config::ServerType::kLlm &&
         options.answer_check != config::AnswerCheck::kOff;
}

// How long a prompt is to be read by the CPU first; 0: none has to be.
int Instance::tokens_to_check() const {
  if (!checks_answers() || !choice_.reference) return 0;
  const store::Case known = standing_->of(current_);
  const auto check = context_.history.check(known);
  if (check && check->agreed) return 0;
  const int tokens = engines::check_prompt_tokens(decisions_.options);
  if (tokens == 0 || context_.history.reference(known.file, tokens)) return 0;
  const bool asked = model_.options.answer_check == config::AnswerCheck::kOn;
  const bool small = engines::model_file_bytes(model_.options.model_path) <= kMaxBytesUnasked;
  return asked || small ? tokens : 0;
}

io::Task<Result<engines::FirstTokens>> Instance::answer_as_reference(http::Endpoint engine,
                                                                     std::string key,
                                                                     int prompt_tokens) const {
  auto loading = wait_until_ready(engine, kReferenceLimit);
  if (!co_await std::move(loading)) {
    co_return fail(kEngineFailed, "The CPU's engine was not ready in time.");
  }
  auto asking = ask_first_tokens(std::move(engine), std::move(key), prompt_tokens, kReferenceLimit);
  co_return co_await std::move(asking);
}

// What the CPU's short life is started with.
config::LoadOptions Instance::reference_options(int prompt_tokens) const {
  config::LoadOptions options = model_.options;
  options.n_ctx = prompt_tokens + kRoomForAnswer;
  options.n_batch = options.n_ubatch = 0;
  options.parallel = 1;
  options.mlock = false;
  options.cache_ram = 0;
  options.cache_type_k = options.cache_type_v = "";
  options.mmproj.clear();
  options.draft_model.clear();
  options.extra_args.clear();
  options.rpc_servers.clear();
  return engines::decide(options, kCpu, nullptr, false).options;
}

// A short life of the CPU's engine. Without a reference the model is served unchecked; but a file
// that the CPU can't load is no model for the others either.
io::Task<std::optional<Ended>> Instance::make_reference(int prompt_tokens) {
  log::info("Model {}: the CPU answers first, once for this file, to compare {} with.", model_.name,
            route_.backend);
  set_state(InstanceState::kChecking);
  const config::LoadOptions options = reference_options(prompt_tokens);
  EngineStart start = engine_start();
  const Engine& cpu = *choice_.reference;
  auto started = start_engine(context_.executor,
                              {cpu, options, start.alias, start.machine, start.guard}, log_sink());
  Result<engines::FirstTokens> answer = fail(kEngineFailed, "The CPU's engine ended.");
  if (started) {
    child_ = std::move(started->child);
    auto ending = child_->wait();
    auto answering = answer_as_reference(started->endpoint, started->key, prompt_tokens);
    auto first = co_await io::wait_for_one(std::move(ending), std::move(answering));
    if (first.index() == 1) {
      answer = std::move(std::get<1>(first));
    } else if (Ended ended = describe_end(std::get<0>(first), false);
               ended.ending.failure == FailureClass::kBadModel) {
      co_return ended;
    }
    auto stopping = child_->stop(kStopGrace);
    co_await std::move(stopping);
    child_.reset();
  } else {
    answer = fail(std::move(started.error()));
  }
  if (stopping_) co_return std::nullopt;
  if (answer) {
    context_.history.put_reference(standing_->of(current_).file, prompt_tokens,
                                   engines::to_text(*answer));
  } else {
    log::warning("Model {}: the answers of {} can't be compared with the CPU's: {}", model_.name,
                 route_.backend, answer.error().text());
  }
  set_state(InstanceState::kStarting);
  co_return std::nullopt;
}

// Nothing if the engine may serve.
io::Task<std::optional<Ended>> Instance::check_answers() {
  const store::Case known = standing_->of(current_);
  const auto check = context_.history.check(known);
  if (!checks_answers() || (check && check->agreed)) co_return std::nullopt;
  const int tokens = engines::check_prompt_tokens(decisions_.options);
  const auto text = context_.history.reference(known.file, tokens);
  const auto reference = text ? engines::first_tokens_of(*text)
                              : Result<engines::FirstTokens>(fail(kEngineFailed, ""));
  if (!reference) co_return std::nullopt;

  set_state(InstanceState::kChecking);
  auto ending = child_->wait();
  auto asking = ask_first_tokens(route_.endpoint, route_.key, tokens, kAnswerLimit);
  auto first = co_await io::wait_for_one(std::move(ending), std::move(asking));
  if (first.index() == 0) co_return describe_end(std::get<0>(first), false);
  const auto& answer = std::get<1>(first);
  if (!answer && answer.error().code == engines::kEngineUnusable) {
    log::warning("Model {}: its answers can't be compared: {}", model_.name, answer.error().text());
    co_return std::nullopt;
  }
  std::optional<Ended> ended;
  if (!answer && broken_) {
    ended = describe_break(false);
  } else if (!answer) {
    // Its connection closes before the kernel has told of its end.
    auto dying = child_->wait();
    auto limit = io::sleep_for(kDeathNotice);
    const auto end = co_await io::wait_for_one(std::move(dying), std::move(limit));
    if (end.index() == 0) co_return describe_end(std::get<0>(end), false);
    const bool silent = answer.error().code == kTimeout;
    ended = load_error(silent ? FailureClass::kGpuHang : FailureClass::kCrash,
                       {kEngineFailed,
                        "The engine did not answer when its answers were to be compared: " +
                            answer.error().message,
                        {}});
  } else {
    const engines::Agreement agreement = engines::compare(*reference, *answer);
    context_.history.put(store::CheckRecord{known, agreement.agrees, agreement.distance,
                                            std::chrono::system_clock::now()});
    log::info("Model {}: {} {} the CPU's answers: {}", model_.name, route_.backend,
              agreement.agrees ? "agrees with" : "contradicts", agreement.why);
    if (agreement.agrees) co_return std::nullopt;
    ended = load_error(FailureClass::kWrongOutput,
                       {kEngineFailed,
                        fmt::format("The engine computes something else than the CPU ({}): {}",
                                    engines::name_of(FailureClass::kWrongOutput), agreement.why),
                        std::string(engines::summary_of(FailureClass::kWrongOutput))});
  }
  auto stopping = child_->stop(kStopGrace);
  co_await std::move(stopping);
  co_return ended;
}

}  // namespace yoke::supervisor
