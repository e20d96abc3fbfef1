#include "gateway/failover.h"

#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "base/log.h"
#include "gateway/api_error.h"
#include "gateway/continuation.h"
#include "supervisor/instance.h"

namespace yoke::gateway {
namespace {

using namespace std::chrono_literals;

// How many tokens the text has: asked of the engine, as an event may carry several.
io::Task<std::int64_t> count_tokens(http::Endpoint engine, const SentReply& sent) {
  const auto at_least = static_cast<std::int64_t>(sent.text_events());
  if (at_least == 0) co_return 0;
  http::ClientRequest request{std::move(engine), {"POST", "/tokenize"}, {}};
  request.head.headers.set("Content-Type", "application/json");
  request.body = json_text(boost::json::object{{"content", sent_text(sent)}});
  auto sending = http::send(std::move(request), {2s, 10s, 10s});
  const auto response = co_await std::move(sending);
  if (!response || (*response)->head().status != 200) co_return at_least;
  auto reading = (*response)->read_all(64u << 20);
  const auto body = co_await std::move(reading);
  const auto document = body ? parse_json(*body) : fail(body.error());
  const auto* reply = document ? document->if_object() : nullptr;
  const auto* tokens = reply != nullptr ? reply->if_contains("tokens") : nullptr;
  if (tokens == nullptr || !tokens->is_array()) co_return at_least;
  co_return static_cast<std::int64_t>(tokens->get_array().size());
}

// What has sent nothing can begin anew; what was begun in another form than events of one answer is
// beyond saving.
Result<void> can_go_on(const Delivery& delivery, const EngineRequest& request) {
  const bool nothing_said = !delivery.sent().begun() && request.form == ReplyForm::kStream;
  if (!delivery.begun() || nothing_said) return {};
  YOKE_CHECK(continue_request(request, delivery.sent(), 0));
  return {};
}

// Tells the client, in its stream if it has begun.
io::Task<Result<void>> give_up(Delivery& delivery, const std::string& model, Error error) {
  if (!delivery.begun()) co_return fail(std::move(error));
  log::warning("Model {}: an answer was cut: {}", model, error.text());
  auto ending = delivery.end_with(std::move(error));
  co_await std::move(ending);
  co_return Result<void>{};
}

}  // namespace

io::Task<Result<void>> answer(Delivery& delivery, supervisor::ControlLoop& control,
                              std::string model, EngineRequest request, FailoverLimits limits) {
  std::uint64_t failed_start = 0;
  for (int tried = 1;; ++tried) {
    auto waiting = control.await_ready(model, limits.start, failed_start);
    auto ready = co_await std::move(waiting);
    if (!ready) {
      auto giving_up = give_up(delivery, model, std::move(ready.error()));
      co_return co_await std::move(giving_up);
    }
    EngineRequest attempt = request;
    std::optional<Seam> seam;
    if (delivery.sent().begun()) {
      auto counting = count_tokens(ready->endpoint, delivery.sent());
      const std::int64_t sent_tokens = co_await std::move(counting);
      auto continued = continue_request(request, delivery.sent(), sent_tokens);
      if (!continued) {
        auto giving_up = give_up(delivery, model, std::move(continued.error()));
        co_return co_await std::move(giving_up);
      }
      attempt = std::move(*continued);
      seam.emplace(delivery.sent(), sent_tokens);
    }
    RelayTarget target{model, ready->endpoint, ready->load, limits.relay};
    auto relaying = relay(delivery, std::move(target), std::move(attempt), seam ? &*seam : nullptr);
    auto relayed = co_await std::move(relaying);
    if (relayed) {
      ready->load->answers.fetch_add(1, std::memory_order_relaxed);
      co_return Result<void>{};
    }
    Error error = std::move(relayed.error());
    if (error.code == http::kPeerClosed || error.code == kCancelled) co_return fail(error);
    delivery.metrics().count_engine_trouble(status_of(error.code));

    const bool died = error.code == supervisor::kEngineFailed;
    if (died && delivery.begun() && lacks_only_its_end(request, delivery.sent())) {
      http::ResponseHead begun_already;
      auto ending = delivery.send_events(begun_already, "data: [DONE]\n\n");
      YOKE_CO_CHECK(co_await std::move(ending));
      auto end = delivery.end(begun_already);
      co_return co_await std::move(end);
    }
    if (died && tried < limits.engines) {
      const Result<void> survives = can_go_on(delivery, request);
      if (survives) {
        log::info("Model {}: an answer goes on with the next engine.", model);
        delivery.metrics().count_survival(delivery.sent().begun());
        failed_start = ready->start;
        continue;
      }
      error = {
          kCannotContinue,
          fmt::format("The engine of the model '{}' failed in the middle of this answer, which "
                      "can't go on elsewhere: {}.",
                      model, survives.error().message),
          "Repeat the request."};
    }
    auto giving_up = give_up(delivery, model, std::move(error));
    co_return co_await std::move(giving_up);
  }
}

}  // namespace yoke::gateway
