#include "gateway/failover.h"

#include <algorithm>
#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "base/log.h"
#include "gateway/api_error.h"
#include "gateway/continuation.h"
#include "gateway/engine_error.h"
#include "supervisor/instance.h"

namespace yoke::gateway {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
}

std::string tokenize_body(engines::EngineKind kind, const std::string& model, std::string text) {
  if (kind == engines::EngineKind::kLlamaCpp) {
    return json_text(boost::json::object{{"content", std::move(text)}});
  }
  return json_text(boost::json::object{
      {"model", model}, {"prompt", std::move(text)}, {"add_special_tokens", false}});
}

// How many tokens the text has: asked of the engine, as an event may carry several.
io::Task<std::int64_t> count_tokens(const supervisor::ReadyEngine& engine, const std::string& model,
                                    const SentReply& sent) {
  const auto at_least = static_cast<std::int64_t>(sent.text_events());
  if (at_least == 0) co_return 0;
  http::ClientRequest request{engine.endpoint, {"POST", "/tokenize"}, {}};
  request.head.headers.set("Content-Type", "application/json");
  if (!engine.key.empty()) request.head.headers.set("Authorization", "Bearer " + engine.key);
  request.body = tokenize_body(engine.kind, model, sent_text(sent));
  auto sending = http::send(std::move(request), {2s, 10s, 10s});
  const auto response = co_await std::move(sending);
  if (!response || (*response)->head().status != 200) co_return at_least;
  auto reading = (*response)->read_all(64u << 20);
  const auto body = co_await std::move(reading);
  const auto document = body ? parse_json(*body) : fail(body.error());
  const auto* reply = document ? document->if_object() : nullptr;
  const auto* tokens = reply != nullptr ? reply->if_contains("tokens") : nullptr;
  if (tokens == nullptr || !tokens->is_array()) co_return at_least;
  // A text can be written with fewer tokens than it was said with, but an event has one at least.
  co_return std::max(at_least, static_cast<std::int64_t>(tokens->get_array().size()));
}

// What has sent nothing can begin anew; what was begun in another form than events of one answer is
// beyond saving.
Result<void> can_go_on(const Delivery& delivery, const EngineRequest& request) {
  const bool nothing_said = !delivery.sent().begun() && request.form == ReplyForm::kStream;
  if (!delivery.begun() || nothing_said) return {};
  YOKE_CHECK(continue_request(request, delivery.sent(), 0));
  return {};
}

// What was saved of the conversation when the engine was stopped last, if anything was.
io::Task<void> restore_context(const supervisor::ReadyEngine& engine,
                               const EngineRequest& request) {
  const char* target = request.kind == RouteKind::kChat         ? "/v1/chat/completions"
                       : request.kind == RouteKind::kCompletion ? "/v1/completions"
                                                                : nullptr;
  if (!engine.contexts || target == nullptr) co_return;
  auto restoring = engine.contexts->restore_for(target, request.body);
  co_await std::move(restoring);
}

// Tells the client, in its stream if it has begun.
io::Task<Result<void>> give_up(Delivery& delivery, const std::string& model, Error error) {
  if (!delivery.begun()) co_return fail(std::move(error));
  log::warning("Model {}: an answer was cut: {}", model, error.text());
  auto ending = delivery.end_with(std::move(error));
  co_await std::move(ending);
  co_return Result<void>{};
}

// What the next engine is asked, and how its answer joins what was sent.
struct Attempt {
  EngineRequest request;
  std::optional<Seam> seam{};  // None if nothing was sent.
};

io::Task<Result<Attempt>> next_attempt(const supervisor::ReadyEngine& engine,
                                       const std::string& model, const EngineRequest& request,
                                       const SentReply& sent) {
  if (!sent.begun()) co_return Attempt{request};
  auto counting = count_tokens(engine, model, sent);
  const std::int64_t sent_tokens = co_await std::move(counting);
  YOKE_CO_TRY(EngineRequest continued, continue_request(request, sent, sent_tokens));
  co_return Attempt{std::move(continued), Seam(sent, sent_tokens)};
}

io::Task<Result<void>> send_missing_end(Delivery& delivery) {
  const http::ResponseHead begun_already;
  auto sending = delivery.send_events(begun_already, "data: [DONE]\n\n");
  YOKE_CO_CHECK(co_await std::move(sending));
  auto ending = delivery.end(begun_already);
  co_return co_await std::move(ending);
}

RelayTarget target_of(const supervisor::ReadyEngine& engine, const std::string& model,
                      const RelayLimits& limits) {
  // vLLM reports no progress: its silence says nothing.
  auto load = engine.kind == engines::EngineKind::kVllm ? nullptr : engine.load;
  return {model, engine.endpoint, engine.key, std::move(load), limits};
}

Error cut_short(const std::string& model, const Error& why) {
  return {kCannotContinue,
          fmt::format("The engine of the model '{}' failed in the middle of this answer, which "
                      "can't go on elsewhere: {}.",
                      model, why.message),
          "Repeat the request."};
}

}  // namespace

io::Task<Result<void>> answer(Delivery& delivery, supervisor::ControlLoop& control,
                              std::string model, EngineRequest request, FailoverLimits limits) {
  supervisor::AdmitOptions asking;
  const auto arrived = Clock::now();
  auto may_wait = limits.start;
  Error problem{kInternal, "No engine was asked."};
  for (int tried = 1;; ++tried) {
    const std::size_t said_before = delivery.sent().text_events();
    const auto asked = Clock::now();
    asking.deadline = asked + may_wait;
    auto waiting = control.admit(model, asking);
    auto admission = co_await std::move(waiting);
    may_wait = std::max(may_wait - since(asked), 0ms);
    if (!admission) {
      problem = std::move(admission.error());
      break;
    }
    const supervisor::ReadyEngine* const ready = &admission->engine;
    auto restoring = restore_context(*ready, request);
    co_await std::move(restoring);
    auto preparing = next_attempt(*ready, model, request, delivery.sent());
    auto attempt = co_await std::move(preparing);
    if (!attempt) {
      problem = std::move(attempt.error());
      break;
    }
    auto relaying = relay(delivery, target_of(*ready, model, limits.relay),
                          std::move(attempt->request), attempt->seam ? &*attempt->seam : nullptr);
    auto relayed = co_await std::move(relaying);
    if (relayed) {
      ready->load->answers.fetch_add(1, std::memory_order_relaxed);
      co_return Result<void>{};
    }
    problem = std::move(relayed.error());
    if (problem.code == http::kPeerClosed || problem.code == kCancelled) co_return fail(problem);
    delivery.metrics().count_engine_trouble(status_of(problem.code));

    const bool broken = problem.code == kEngineBroken;
    if (broken) control.report_broken(model, ready->start, problem.message);
    if (!broken && problem.code != supervisor::kEngineFailed) break;
    if (delivery.begun() && lacks_only_its_end(request, delivery.sent())) {
      auto ending = send_missing_end(delivery);
      co_return co_await std::move(ending);
    }
    if (tried == limits.engines) break;
    if (const auto survives = can_go_on(delivery, request); !survives) {
      problem = cut_short(model, survives.error());
      break;
    }
    log::info("Model {}: an answer goes on with the next engine.", model);
    delivery.metrics().count_survival(delivery.sent().begun());
    asking.failed_start = ready->start;
    asking.since = arrived;  // It keeps its turn.
    if (delivery.sent().text_events() != said_before) may_wait = limits.start;
  }
  auto giving_up = give_up(delivery, model, std::move(problem));
  co_return co_await std::move(giving_up);
}

}  // namespace yoke::gateway
