#include "cli/ask.h"

#include <fmt/format.h>

#include "base/units.h"
#include "cli/known_models.h"

namespace yoke::cli {
namespace {

using Clock = AnswerReader::Clock;
using namespace std::chrono_literals;

// The model may have to be loaded first, and a long prompt takes its time; there is always Ctrl-C.
constexpr http::ClientTimeouts kTimeouts{.connect = 5s, .head = 2h, .idle = 2h};
constexpr auto kSilentWait = 2s;

std::optional<Error> cut_error(const AnswerReader& reader, const Sampling& sampling) {
  if (reader.finish_reason().empty()) {
    return Error{kAnswerCut, "The server ended the answer before it was complete.",
                 "`yoke logs` may say why."};
  }
  if (reader.finish_reason() == "length" && !sampling.max_tokens) {
    return Error{kAnswerCut, "The answer was cut off: the model's context is full.",
                 "Ask for less, or give the model a larger context in the configuration."};
  }
  return std::nullopt;
}

}  // namespace

Answer ask(const ServerClient& client, const ChatSession& session, AnswerView& view) {
  const Clock::time_point asked = Clock::now();
  AnswerReader reader(asked);
  EventHandlers handlers;
  handlers.on_event = [&](const http::SseEvent& event) -> Result<void> {
    YOKE_TRY(const Delta delta, reader.read(event.data, Clock::now()));
    view.show(delta);
    return {};
  };
  handlers.on_tick = [&] {
    const auto waited = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - asked);
    if (reader.begun() || waited < kSilentWait) return;
    view.show_waiting(fmt::format("Waiting for {}, {}", session.model(), format_duration(waited)));
  };
  Call call{.method = "POST",
            .target = "/v1/chat/completions",
            .body = session.request_body(),
            .timeouts = kTimeouts};
  const auto done = client.stream(std::move(call), std::move(handlers));
  view.finish();

  Answer answer{reader.text(), reader.stats(), reader.begun(), std::nullopt};
  if (!done) {
    answer.error = with_known_models(client, session.model(), done.error());
  } else {
    answer.error = cut_error(reader, session.sampling());
  }
  return answer;
}

}  // namespace yoke::cli
