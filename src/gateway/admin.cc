#include "gateway/admin.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "gateway/api_error.h"
#include "gateway/explanation_json.h"
#include "scheduler/scheduler.h"

namespace yoke::gateway {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using supervisor::InstanceState;
using supervisor::Residency;
using supervisor::Route;

struct CommandPath {
  std::string_view path;
  Command command;
};

constexpr std::array kCommands{
    CommandPath{"/yoke/v1/load", Command::kLoad},
    CommandPath{"/yoke/v1/unload", Command::kUnload},
    CommandPath{"/yoke/v1/pin", Command::kPin},
    CommandPath{"/yoke/v1/unpin", Command::kUnpin},
};

constexpr std::size_t kDefaultTail = 200;
constexpr auto kFollowInterval = 15s;  // A comment goes out this often, so that proxies stay awake.

json::string text(std::string_view value) { return json::string(value.data(), value.size()); }

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::max(std::chrono::duration<double>(to - from).count(), 0.0);
}

// Null if there is none: a reload may just have brought or taken the model.
const scheduler::ModelStatus* find(const Residency& residency, std::string_view model) {
  const auto found = std::ranges::find(residency.models, model, &scheduler::ModelStatus::name);
  return found == residency.models.end() ? nullptr : &*found;
}

// What the scheduler says of a model; null: nothing.
void add_residence(json::object& fields, const scheduler::ModelStatus* model,
                   const Residency& residency) {
  fields["pinned"] = false;
  fields["waiting"] = 0;
  fields["last_used_s"] = nullptr;
  fields["next"] = "";
  fields["load_time_s"] = 0;
  if (model == nullptr) return;
  if (model->last_used) {
    fields["last_used_s"] = seconds_between(*model->last_used, residency.now);
  }
  fields["pinned"] = model->pinned;
  fields["waiting"] = model->waiting;
  fields["next"] = text(scheduler::describe(model->next, residency.now));
  fields["load_time_s"] = std::chrono::duration<double>(model->load_time).count();
}

// Of its engine, or why it has none.
const Error* error_of(const Route& route, const scheduler::ModelStatus* model) {
  const bool unloaded = model != nullptr && model->state == scheduler::State::kUnloaded;
  if (unloaded && model->error) return &*model->error;
  return route.error ? &*route.error : nullptr;
}

json::object to_json(const Route& route, const Residency& residency) {
  json::object fields;
  fields["model"] = route.model;
  fields["type"] = text(config::name_of(route.type));
  fields["state"] = text(supervisor::name_of(route.state));
  fields["engine"] = route.engine;
  fields["backend"] = route.backend;
  if (!route.rpc_client.empty()) fields["rpc_client"] = route.rpc_client;
  fields["pid"] = route.pid;
  fields["port"] = route.endpoint.port;
  fields["uptime_s"] = seconds_between(route.since, residency.now);
  fields["restarts"] = route.restarts;
  fields["planned_bytes"] = route.planned_bytes;
  fields["memory_bytes"] = nullptr;
  if (route.held_bytes > 0) fields["memory_bytes"] = route.held_bytes;
  fields["active_requests"] = route.load->active_requests.load(std::memory_order_relaxed);
  fields["n_ctx"] = route.n_ctx;
  const scheduler::ModelStatus* model = find(residency, route.model);
  add_residence(fields, model, residency);
  fields["error"] = nullptr;
  if (const Error* error = error_of(route, model)) {
    fields["error"] =
        json::object{{"code", text(error->code.name())}, {"message", utf8_json(error->text())}};
  }
  return fields;
}

json::object to_json(const scheduler::PoolStatus& pool) {
  return {{"name", text(pool.name)},
          {"budget", pool.budget},
          {"used", pool.used},
          {"promised", pool.promised}};
}

json::array names_json(const std::vector<std::string>& names) {
  json::array all;
  for (const std::string& name : names) all.push_back(utf8_json(name));
  return all;
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

io::Task<Result<void>> give(supervisor::ControlLoop& control, Command command, std::string model) {
  switch (command) {
    case Command::kLoad:
      return control.load(std::move(model));
    case Command::kUnload:
      return control.unload(std::move(model));
    case Command::kPin:
      return control.pin(std::move(model));
    case Command::kUnpin:
      break;
  }
  return control.unpin(std::move(model));
}

// Why a model that was asked for is not on its way.
Result<void> check_wanted(const Residency& residency, std::string_view name) {
  using Kind = scheduler::NextAction::Kind;
  const scheduler::ModelStatus* model = find(residency, name);
  if (model == nullptr || model->state != scheduler::State::kUnloaded || !model->error) return {};
  const Kind next = model->next.kind;
  const bool gave_up = next == Kind::kNothing || next == Kind::kGaveUp || next == Kind::kTooLarge;
  if (gave_up) return fail(*model->error);
  return {};
}

// One that failed, or is going, has to be asked for again: a request alone would be told why it
// failed, or wait for its end.
bool needs_order(const Residency& residency, std::string_view name) {
  const scheduler::ModelStatus* model = find(residency, name);
  return model != nullptr &&
         (model->error || model->next.kind == scheduler::NextAction::Kind::kStopsWhenDone);
}

// As a request that has nothing to ask: it takes its place and gives it back.
io::Task<Result<void>> load_and_wait(supervisor::ControlLoop& control, std::string model,
                                     std::chrono::milliseconds patience) {
  auto asking = control.residency();
  YOKE_CO_TRY(const Residency residency, co_await std::move(asking));
  if (needs_order(residency, model)) {
    auto ordering = control.load(model);
    YOKE_CO_CHECK(co_await std::move(ordering));
  }
  supervisor::AdmitOptions options{.deadline = std::chrono::steady_clock::now() + patience};
  auto admitting = control.admit(std::move(model), options);
  const auto admission = co_await std::move(admitting);
  if (!admission) co_return fail(admission.error());
  co_return Result<void>{};
}

}  // namespace

std::optional<Command> command_at(std::string_view path) {
  const auto found = std::ranges::find(kCommands, path, &CommandPath::path);
  return found == kCommands.end() ? std::nullopt : std::optional(found->command);
}

Result<CommandRequest> read_command(std::string_view body) {
  YOKE_TRY(const json::value document, parse_json(body));
  YOKE_TRY(const JsonFields fields, JsonFields::of(document));
  CommandRequest request;
  if (fields.has("model")) {
    YOKE_TRY(request.model, fields.string("model"));
  }
  if (request.model.empty()) {
    return fail(kModelRequired, "The request names no model.",
                "Set \"model\" to one of those that GET /v1/models lists.");
  }
  if (fields.has("wait")) {
    YOKE_TRY(request.wait, fields.boolean("wait"));
  }
  return request;
}

io::Task<Result<std::string>> carry_out(supervisor::ControlLoop& control, Command command,
                                        CommandRequest request,
                                        std::chrono::milliseconds patience) {
  const bool wait = command == Command::kLoad && request.wait;
  auto doing = wait ? load_and_wait(control, request.model, patience)
                    : give(control, command, request.model);
  YOKE_CO_CHECK(co_await std::move(doing));
  if (command == Command::kLoad && !wait) {
    auto asking = control.residency();
    YOKE_CO_TRY(const Residency residency, co_await std::move(asking));
    YOKE_CO_CHECK(check_wanted(residency, request.model));
  }
  const auto table = control.routes();
  const Route* route = table->find(request.model);
  json::object body{{"model", utf8_json(request.model)}};
  // None: a reload took it out this very moment.
  body["state"] =
      text(supervisor::name_of(route != nullptr ? route->state : InstanceState::kStopped));
  co_return json::serialize(body);
}

std::string reload_json(const ReloadReport& report) {
  return json::serialize(json::object{{"added", names_json(report.models.added)},
                                      {"removed", names_json(report.models.removed)},
                                      {"restarted", names_json(report.models.restarted)},
                                      {"changed", names_json(report.models.changed)},
                                      {"needs_restart", names_json(report.needs_restart)}});
}

std::string instances_json(const supervisor::RouteTable& table, const Residency& residency) {
  json::array instances;
  for (const auto& route : table.routes) instances.push_back(to_json(route, residency));
  json::array memory;
  for (const auto& pool : residency.pools) memory.push_back(to_json(pool));
  return json_text(json::object{{"version", YOKE_VERSION},
                                {"instances", std::move(instances)},
                                {"memory", std::move(memory)}});
}

io::Task<Result<std::string>> instances(supervisor::ControlLoop& control,
                                        const http::RequestHead& request) {
  if (!reads(request)) {
    co_return fail(kMethodNotAllowed, fmt::format("{} takes GET only.", kInstancesPath));
  }
  auto asking = control.residency();
  YOKE_CO_TRY(const Residency residency, co_await std::move(asking));
  const auto table = control.routes();
  co_return instances_json(*table, residency);
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
