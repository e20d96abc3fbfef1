#include "cli/logs.h"

#include <cstdio>

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "cli/answer_view.h"
#include "cli/known_models.h"
#include "cli/terminal.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;

// The server sends a comment every 15 seconds when there is nothing else.
constexpr http::ClientTimeouts kFollowTimeouts{.connect = 5s, .head = 60s, .idle = 60s};

std::string target_of(const LogsOptions& options) {
  std::string target = fmt::format("/yoke/v1/logs?tail={}", options.tail);
  if (!options.model.empty()) target += "&model=" + encode_query(options.model);
  if (options.follow) target += "&follow=true";
  return target;
}

class LinePrinter {
 public:
  explicit LinePrinter(const LogsOptions& options)
      : options_(options), terminal_(Terminal::of(stdout)) {}

  Result<void> print(const boost::json::value& entry) const {
    std::string text;
    if (options_.json) {
      text = boost::json::serialize(entry);
    } else {
      YOKE_TRY(const JsonFields fields, JsonFields::of(entry));
      YOKE_TRY(const std::string line, fields.string("line"));
      if (options_.model.empty()) {
        text = terminal_.dim(printable(fields.string_or("model", "")) + " |") + " ";
      }
      text += printable(line);
    }
    text += '\n';
    std::fputs(text.c_str(), stdout);
    return {};
  }

 private:
  const LogsOptions& options_;
  Terminal terminal_;
};

Result<void> follow(const ServerClient& client, const LogsOptions& options) {
  const LinePrinter printer(options);
  EventHandlers handlers;
  handlers.on_event = [&](const http::SseEvent& event) -> Result<void> {
    YOKE_TRY(const boost::json::value entry, parse_json(event.data));
    YOKE_CHECK(printer.print(entry));
    return flush_stdout();
  };
  Call call{.target = target_of(options), .timeouts = kFollowTimeouts};
  YOKE_CHECK(client.stream(std::move(call), std::move(handlers)));
  return fail(http::kPeerClosed, "The server ended the log.",
              "It may have been stopped: try `yoke ps`.");
}

Result<void> show(const ServerClient& client, const LogsOptions& options) {
  const LinePrinter printer(options);
  Call call{.target = target_of(options)};
  YOKE_TRY(const boost::json::value reply, client.fetch_json(std::move(call)));
  const boost::json::value* lines =
      reply.is_object() ? reply.as_object().if_contains("lines") : nullptr;
  if (lines == nullptr || !lines->is_array()) {
    return fail(http::kBadResponse, fmt::format("{} answered without log lines.", client.url()));
  }
  for (const boost::json::value& entry : lines->as_array()) YOKE_CHECK(printer.print(entry));
  return flush_stdout();
}

}  // namespace

Result<void> logs(const LogsOptions& options) {
  const Interrupts interrupts;
  YOKE_TRY(const ServerClient client, ServerClient::create(options.connect, &interrupts));
  auto done = options.follow ? follow(client, options) : show(client, options);
  if (!done) return fail(with_known_models(client, options.model, std::move(done.error())));
  return done;
}

}  // namespace yoke::cli
