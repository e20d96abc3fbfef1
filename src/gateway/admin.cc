#include "gateway/admin.h"

#include <charconv>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "gateway/api_error.h"
#include "gateway/explanation_json.h"

namespace yoke::gateway {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr std::size_t kDefaultTail = 200;
constexpr auto kFollowInterval = 15s;  // A comment goes out this often, so that proxies stay awake.

json::string text(std::string_view value) { return json::string(value.data(), value.size()); }

json::object to_json(const supervisor::Route& route) {
  const auto in_state = std::chrono::steady_clock::now() - route.since;
  json::object fields;
  fields["model"] = route.model;
  fields["type"] = text(config::name_of(route.type));
  fields["state"] = text(supervisor::name_of(route.state));
  fields["engine"] = route.engine;
  fields["backend"] = route.backend;
  fields["pid"] = route.pid;
  fields["port"] = route.endpoint.port;
  fields["uptime_s"] = std::chrono::duration<double>(in_state).count();
  fields["restarts"] = route.restarts;
  fields["active_requests"] = route.load->active_requests.load(std::memory_order_relaxed);
  fields["error"] = nullptr;
  if (route.error) {
    fields["error"] =
        json::object{{"code", text(route.error->code.name())}, {"message", route.error->text()}};
  }
  return fields;
}

json::object to_json(const supervisor::LogEntry& entry) {
  const auto time = entry.time.time_since_epoch();
  return {{"model", entry.model},
          {"seq", entry.seq},
          {"time_ms", std::chrono::duration_cast<std::chrono::milliseconds>(time).count()},
          {"line", entry.line}};
}

std::size_t tail_of(const http::RequestHead& request) {
  const std::string wanted = request.query("tail").value_or("");
  std::size_t tail = kDefaultTail;
  const auto parsed = std::from_chars(wanted.data(), wanted.data() + wanted.size(), tail);
  return parsed.ec == std::errc() ? tail : kDefaultTail;
}

std::string events_of(const std::vector<supervisor::LogEntry>& entries) {
  if (entries.empty()) return ": still here\n\n";
  std::string events;
  for (const auto& entry : entries) {
    events += "data: " + json::serialize(to_json(entry)) + "\n\n";
  }
  return events;
}

io::Task<Result<void>> follow(http::Exchange& exchange, supervisor::ControlLoop& control,
                              std::string model, std::vector<supervisor::LogEntry> entries,
                              supervisor::LogCursor cursor, http::Headers extra_headers) {
  http::ResponseHead head{200, std::move(extra_headers)};
  head.headers.set("Content-Type", "text/event-stream");
  head.headers.set("Cache-Control", "no-cache");
  head.headers.set("X-Accel-Buffering", "no");
  auto written = co_await exchange.begin_reply(std::move(head));
  while (written) {
    const std::string events = events_of(entries);
    written = co_await exchange.write(events);
    if (!written) break;
    auto waiting = control.next_logs(model, cursor, kFollowInterval);
    auto next = co_await std::move(waiting);
    if (!next) {
      if (next.error().code == supervisor::kShuttingDown) co_await exchange.end_reply();
      break;
    }
    entries = std::move(*next);
  }
  co_return Result<void>{};
}

bool reads(const http::RequestHead& request) {
  return request.method == "GET" || request.method == "HEAD";
}

}  // namespace

std::string instances_json(const supervisor::RouteTable& table) {
  json::array instances;
  for (const auto& route : table.routes) instances.push_back(to_json(route));
  json::object body;
  body["version"] = YOKE_VERSION;
  body["instances"] = std::move(instances);
  return json::serialize(body);
}

io::Task<Result<void>> reply_with_logs(http::Exchange& exchange, supervisor::ControlLoop& control,
                                       http::Headers extra_headers) {
  const http::RequestHead& request = exchange.request();
  const std::string model = request.query("model").value_or("");
  supervisor::LogCursor cursor;
  auto reading = control.last_logs(model, cursor, tail_of(request));
  YOKE_CO_TRY(auto entries, co_await std::move(reading));
  if (request.query("follow") == "true") {
    auto following = follow(exchange, control, model, std::move(entries), std::move(cursor),
                            std::move(extra_headers));
    co_return co_await std::move(following);
  }
  json::array lines;
  for (const auto& entry : entries) lines.push_back(to_json(entry));
  http::ResponseHead head{200, std::move(extra_headers)};
  head.headers.set("Content-Type", "application/json");
  std::string body = json::serialize(json::object{{"lines", std::move(lines)}});
  co_return co_await exchange.reply(std::move(head), std::move(body));
}

io::Task<Result<std::string>> explain(supervisor::ControlLoop& control,
                                      const http::RequestHead& request) {
  if (!reads(request)) {
    co_return fail(kMethodNotAllowed, fmt::format("{} takes GET only.", kExplainPath));
  }
  const std::string model = request.query("model").value_or("");
  if (model.empty()) {
    co_return fail(kModelRequired, "The request names no model.",
                   fmt::format("Ask for {}?model=NAME.", kExplainPath));
  }
  auto asking = control.explain(model);
  YOKE_CO_TRY(const supervisor::Explanation explanation, co_await std::move(asking));
  co_return explanation_json(explanation, std::chrono::system_clock::now());
}

io::Task<Result<std::string>> quarantine(supervisor::ControlLoop& control,
                                         const http::RequestHead& request) {
  if (request.method == "DELETE") {
    auto clearing = control.clear_quarantines(request.query("model").value_or(""),
                                              request.query("backend").value_or(""));
    YOKE_CO_TRY(const std::size_t cleared, co_await std::move(clearing));
    co_return fmt::format(R"({{"cleared":{}}})", cleared);
  }
  if (!reads(request)) {
    co_return fail(kMethodNotAllowed,
                   fmt::format("{} takes GET and DELETE only.", kQuarantinePath));
  }
  auto asking = control.quarantines();
  YOKE_CO_TRY(const std::vector<store::Quarantine> quarantines, co_await std::move(asking));
  co_return quarantines_json(quarantines, std::chrono::system_clock::now());
}

}  // namespace yoke::gateway
