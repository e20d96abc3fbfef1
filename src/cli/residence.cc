#include "cli/residence.h"

#include <cstdio>
#include <functional>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/known_models.h"
#include "cli/ps.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// The server says when a load takes too long; there is always Ctrl-C.
constexpr http::ClientTimeouts kLoadTimeouts{.connect = 5s, .head = 24h, .idle = 24h};
// What is only shown beside must not hold up anything.
constexpr http::ClientTimeouts kGlanceTimeouts{.connect = 1s, .head = 1s, .idle = 1s};

struct Named {
  std::string model;
  std::string state;
};

Result<Named> read_reply(const boost::json::value& reply) {
  YOKE_TRY(const JsonFields body, JsonFields::of(reply));
  YOKE_TRY(const std::string model, body.string("model"));
  YOKE_TRY(const std::string state, body.string("state"));
  return Named{printable(model), printable(state)};
}

Call command(std::string_view verb, const std::string& model, bool wait = false) {
  boost::json::object body{{"model", utf8_json(model)}};
  if (wait) body["wait"] = true;
  return {.method = "POST", .target = fmt::format("/yoke/v1/{}", verb), .body = json_text(body)};
}

using Format = std::function<Result<std::string>(const boost::json::value& reply)>;

Result<void> print(std::string text) {
  if (!text.ends_with('\n')) text += '\n';
  std::fputs(text.c_str(), stdout);
  return flush_stdout();
}

// Of one model; `json`: the reply as it is.
Result<void> give(const ServerClient& client, std::string_view verb, const std::string& model,
                  bool json, const Format& format) {
  auto reply = client.fetch(command(verb, model));
  if (!reply) return fail(with_known_models(client, model, std::move(reply.error())));
  if (json) return print(std::move(*reply));
  YOKE_TRY(const boost::json::value document, parse_json(*reply));
  YOKE_TRY(std::string text, format(document));
  return print(std::move(text));
}

Result<void> load_and_wait(const ServerClient& client, const LoadCommandOptions& options) {
  const Clock::time_point asked = Clock::now();
  const auto waited = [asked] {
    return std::chrono::duration_cast<milliseconds>(Clock::now() - asked);
  };
  const Terminal terminal = Terminal::of(stderr);
  AnswerView view(stderr, terminal);
  std::function<void()> show_progress;
  if (terminal.styled) {
    show_progress = [&] {
      const auto instances =
          client.fetch_json({.target = std::string(kInstancesTarget), .timeouts = kGlanceTimeouts});
      view.show_waiting(loading_line(instances.value_or(nullptr), options.model, waited()));
    };
  }
  Call call = command("load", options.model, true);
  call.timeouts = kLoadTimeouts;
  auto reply = client.fetch(std::move(call), std::move(show_progress));
  view.finish();
  if (!reply) return fail(with_known_models(client, options.model, std::move(reply.error())));
  if (options.json) return print(std::move(*reply));
  return print(
      fmt::format("{} is ready after {}.", printable(options.model), format_duration(waited())));
}

}  // namespace

std::string loading_line(const boost::json::value& instances, std::string_view model,
                         milliseconds waited) {
  // Whole seconds: tenths would only flicker.
  std::string line =
      fmt::format("Loading {}, {}", printable(model),
                  waited < 1min ? fmt::format("{} s", waited / 1s) : format_duration(waited));
  const auto body = JsonFields::of(instances);
  const auto all = body ? body->objects("instances") : fail(body.error());
  if (!all) return line;
  for (const JsonFields& instance : *all) {
    if (instance.string_or("model", "") != model) continue;
    const std::string next = printable(instance.string_or("next", ""));
    if (!next.empty()) line += ": " + next;
  }
  return line;
}

Result<std::string> format_loading(const boost::json::value& reply) {
  YOKE_TRY(const Named named, read_reply(reply));
  return named.state == "ready" ? fmt::format("{} is ready.", named.model)
                                : fmt::format("{} is being loaded.", named.model);
}

Result<std::string> format_unloaded(const boost::json::value& reply) {
  YOKE_TRY(const Named named, read_reply(reply));
  const bool ends = named.state == "draining" || named.state == "ready";
  return ends ? fmt::format("{} is being unloaded: it finishes its answers first.", named.model)
              : fmt::format("{} is not loaded any more.", named.model);
}

Result<std::string> format_pinned(const boost::json::value& reply, bool off) {
  YOKE_TRY(const Named named, read_reply(reply));
  if (off) return fmt::format("{} is no longer pinned.", named.model);
  return named.state == "ready"
             ? fmt::format("{} is pinned: it stays loaded.", named.model)
             : fmt::format("{} is pinned: it is loaded as soon as it can be, and stays.",
                           named.model);
}

Result<void> load_model(const LoadCommandOptions& options) {
  const Interrupts interrupts;
  YOKE_TRY(const ServerClient client, ServerClient::create(options.connect, &interrupts));
  if (!options.no_wait) return load_and_wait(client, options);
  return give(client, "load", options.model, options.json, format_loading);
}

Result<void> unload_models(const UnloadOptions& options) {
  const Interrupts interrupts;
  YOKE_TRY(const ServerClient client, ServerClient::create(options.connect, &interrupts));
  for (const std::string& model : options.models) {
    YOKE_CHECK(give(client, "unload", model, options.json, format_unloaded));
  }
  return {};
}

Result<void> pin_model(const PinOptions& options) {
  const Interrupts interrupts;
  YOKE_TRY(const ServerClient client, ServerClient::create(options.connect, &interrupts));
  return give(client, options.off ? "unpin" : "pin", options.model, options.json,
              [&](const boost::json::value& reply) { return format_pinned(reply, options.off); });
}

}  // namespace yoke::cli
