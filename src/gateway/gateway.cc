#include "gateway/gateway.h"

#include <array>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/url/decode_view.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "base/published.h"
#include "gateway/access.h"
#include "gateway/admin.h"
#include "gateway/api_error.h"
#include "gateway/delivery.h"
#include "gateway/engine_request.h"
#include "gateway/failover.h"
#include "gateway/metrics.h"
#include "gateway/request_fields.h"
#include "http/server.h"
#include "io/wait_for_one.h"
#include "scheduler/effects.h"

namespace yoke::gateway {
namespace {

namespace json = boost::json;
using config::ServerType;
using supervisor::InstanceState;
using supervisor::Route;
using supervisor::RouteTable;

struct ModelRoute {
  std::string_view path;
  RouteKind kind;
};

constexpr std::array kModelRoutes{
    ModelRoute{"/v1/chat/completions", RouteKind::kChat},
    ModelRoute{"/v1/completions", RouteKind::kCompletion},
    ModelRoute{"/v1/embeddings", RouteKind::kEmbedding},
    ModelRoute{"/v1/rerank", RouteKind::kRerank},
};

constexpr std::string_view kModelsPath = "/v1/models";

// Counts a request as active for as long as it lives.
class ActiveRequest {
 public:
  explicit ActiveRequest(std::shared_ptr<supervisor::InstanceLoad> load) : load_(std::move(load)) {
    load_->active_requests.fetch_add(1, std::memory_order_relaxed);
  }
  ~ActiveRequest() { load_->active_requests.fetch_sub(1, std::memory_order_relaxed); }
  ActiveRequest(const ActiveRequest&) = delete;
  ActiveRequest& operator=(const ActiveRequest&) = delete;

 private:
  std::shared_ptr<supervisor::InstanceLoad> load_;
};

json::object model_json(const Route& route, std::int64_t created) {
  const std::string_view state = supervisor::name_of(route.state);
  json::object model;
  model["id"] = route.model;
  model["object"] = "model";
  model["created"] = created;
  model["owned_by"] = "yoke";
  model["status"] = json::string_view(state.data(), state.size());
  return model;
}

std::string health_json(const RouteTable& table) {
  json::object models;
  bool failed = false;
  bool loading = false;
  for (const Route& route : table.routes) {
    const std::string_view state = supervisor::name_of(route.state);
    models[route.model] = json::string_view(state.data(), state.size());
    failed = failed || route.state == InstanceState::kFailed;
    // One that is not loaded is as well as one that is: it comes when it is asked for.
    loading = loading || route.state == InstanceState::kStarting ||
              route.state == InstanceState::kChecking;
  }
  json::object body;
  body["status"] = failed ? "degraded" : loading ? "loading" : "ok";
  body["models"] = std::move(models);
  return json::serialize(body);
}

std::string_view allowed_methods(std::string_view path, RouteKind kind) {
  if (kind != RouteKind::kOther || path == kReloadPath || command_at(path)) return "POST";
  return path == kQuarantinePath ? "GET, HEAD, DELETE" : "GET, HEAD";
}

Result<void> check_post(const http::RequestHead& request) {
  if (request.method == "POST") return {};
  return fail(kMethodNotAllowed, fmt::format("{} takes POST only.", request.path()));
}

// What can be changed while the gateway runs. A request keeps what it began with.
struct Settings {
  explicit Settings(const config::ServerConfig& server)
      : config(server), rules{server.api_key, server.allowed_origins} {}
  config::ServerConfig config;
  AccessRules rules;
};

http::Headers cors_headers(const AccessRules& rules, const http::RequestHead& request) {
  http::Headers headers;
  const std::string origin = allowed_origin(rules, request);
  if (origin.empty()) return headers;
  headers.set("Access-Control-Allow-Origin", origin);
  headers.set("Vary", "Origin");
  if (request.method == "OPTIONS") {
    headers.set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    headers.set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key");
    headers.set("Access-Control-Max-Age", "3600");
  }
  return headers;
}

// kWrongModelType if this kind of model can't answer this kind of request.
Result<void> check_type(const Route& route, RouteKind kind) {
  const ServerType wanted = kind == RouteKind::kEmbedding ? ServerType::kEmbedding
                            : kind == RouteKind::kRerank  ? ServerType::kRerank
                                                          : ServerType::kLlm;
  if (route.type == wanted) return {};
  return fail(kWrongModelType,
              fmt::format("The model '{}' has server_type \"{}\", which does not answer this.",
                          route.model, config::name_of(route.type)),
              fmt::format("Use a model whose server_type is \"{}\".", config::name_of(wanted)));
}

}  // namespace

struct Gateway::Impl {
  Impl(supervisor::ControlLoop& control_loop, const config::ServerConfig& server_config,
       GatewayHooks gateway_hooks)
      : control(control_loop),
        hooks(std::move(gateway_hooks)),
        present(Settings(server_config)),
        started(std::chrono::duration_cast<std::chrono::seconds>(
                    std::chrono::system_clock::now().time_since_epoch())
                    .count()) {}

  io::Task<void> handle(http::Exchange& exchange);
  io::Task<Result<void>> dispatch(http::Exchange& exchange, const Settings& settings,
                                  RouteKind& kind, int& status);
  io::Task<Result<void>> serve_model(http::Exchange& exchange, const Settings& settings,
                                     RouteKind kind);
  io::Task<Result<void>> forward(http::Exchange& exchange, const Settings& settings,
                                 std::string model, EngineRequest request);
  io::Task<Result<void>> serve_logs(http::Exchange& exchange, http::Headers extra_headers);
  io::Task<Result<std::string>> text_for(http::Exchange& exchange, const Settings& settings);
  io::Task<Result<std::string>> run_command(http::Exchange& exchange, const Settings& settings,
                                            Command command);
  io::Task<Result<std::string>> reload(http::Exchange& exchange);
  Result<std::string> page(const http::RequestHead& request) const;
  Result<std::string> models_page(std::string_view path, const RouteTable& table) const;

  supervisor::ControlLoop& control;
  const GatewayHooks hooks;
  Published<Settings> present;
  const std::int64_t started;  // Unix time.
  Metrics metrics;
  std::unique_ptr<http::Server> server;
};

io::Task<void> Gateway::Impl::handle(http::Exchange& exchange) {
  const std::shared_ptr<const Settings> settings = present.get();
  RouteKind kind = RouteKind::kOther;
  int status = 200;
  auto dispatching = dispatch(exchange, *settings, kind, status);
  const auto done = co_await std::move(dispatching);
  if (!done && done.error().code == http::kPeerClosed) {
    metrics.count_client_gone();
    status = 499;  // As nginx counts it; nobody is there to receive it.
  } else if (!done) {
    const Error& error = done.error();
    if (error.code == kInternal) log::error("{}: {}", exchange.request().path(), error.text());
    ErrorReply reply = error_reply(error);
    status = reply.head.status;
    if (status == 405) {
      reply.head.headers.set("Allow", allowed_methods(exchange.request().path(), kind));
    }
    for (const auto& header : cors_headers(settings->rules, exchange.request())) {
      reply.head.headers.set(header.name, header.value);
    }
    if (!exchange.reply_begun()) {
      co_await exchange.reply(std::move(reply.head), std::move(reply.body));
    }
  }
  metrics.count_request(kind, status);
}

io::Task<Result<void>> Gateway::Impl::dispatch(http::Exchange& exchange, const Settings& settings,
                                               RouteKind& kind, int& status) {
  const http::RequestHead& request = exchange.request();
  const std::string_view path = request.path();
  YOKE_CO_CHECK(check_access(settings.rules, request));
  if (request.method == "OPTIONS") {
    status = 204;
    http::ResponseHead head{204, cors_headers(settings.rules, request)};
    co_return co_await exchange.reply(std::move(head), std::string());
  }
  for (const ModelRoute& route : kModelRoutes) {
    if (path != route.path) continue;
    kind = route.kind;
    YOKE_CO_CHECK(check_post(request));
    auto serving = serve_model(exchange, settings, kind);
    co_return co_await std::move(serving);
  }
  if (path == "/yoke/v1/logs" && request.method == "GET") {
    auto logs = serve_logs(exchange, cors_headers(settings.rules, request));
    co_return co_await std::move(logs);
  }
  auto writing = text_for(exchange, settings);
  YOKE_CO_TRY(std::string text, co_await std::move(writing));
  http::ResponseHead head{200, cors_headers(settings.rules, request)};
  head.headers.set("Content-Type", path == "/metrics" ? "text/plain; version=0.0.4; charset=utf-8"
                                                      : "application/json");
  co_return co_await exchange.reply(std::move(head), std::move(text));
}

io::Task<Result<void>> Gateway::Impl::serve_logs(http::Exchange& exchange,
                                                 http::Headers extra_headers) {
  // Beside the watch for the client, because the stream may have nothing to send for long.
  auto logs = reply_with_logs(exchange, control, std::move(extra_headers));
  auto watching = exchange.client_gone();
  auto outcome = co_await io::wait_for_one(std::move(logs), std::move(watching));
  if (outcome.index() == 0) co_return std::move(std::get<0>(outcome));
  co_return Result<void>{};
}

// What is answered as one text.
io::Task<Result<std::string>> Gateway::Impl::text_for(http::Exchange& exchange,
                                                      const Settings& settings) {
  const http::RequestHead& request = exchange.request();
  const std::string_view path = request.path();
  if (const auto command = command_at(path)) {
    auto running = run_command(exchange, settings, *command);
    co_return co_await std::move(running);
  }
  if (path == kReloadPath) {
    auto reloading = reload(exchange);
    co_return co_await std::move(reloading);
  }
  if (path == kInstancesPath || path == kExplainPath || path == kQuarantinePath) {
    auto asking = path == kInstancesPath ? instances(control, request)
                  : path == kExplainPath ? explain(control, request)
                                         : quarantine(control, request);
    co_return co_await std::move(asking);
  }
  co_return page(request);
}

io::Task<Result<std::string>> Gateway::Impl::run_command(http::Exchange& exchange,
                                                         const Settings& settings,
                                                         Command command) {
  YOKE_CO_CHECK(check_post(exchange.request()));
  auto reading = exchange.read_body(kMaxAdminBody);
  YOKE_CO_TRY(const std::string body, co_await std::move(reading));
  YOKE_CO_TRY(CommandRequest request, read_command(body));
  auto work = carry_out(control, command, std::move(request), settings.config.start_timeout);
  auto watching = exchange.client_gone();
  auto outcome = co_await io::wait_for_one(std::move(work), std::move(watching));
  if (outcome.index() == 1) co_return fail(http::kPeerClosed, "The client left.");
  co_return std::move(std::get<0>(outcome));
}

// Goes on to its end when the client leaves, as it is all or nothing.
io::Task<Result<std::string>> Gateway::Impl::reload(http::Exchange& exchange) {
  YOKE_CO_CHECK(check_post(exchange.request()));
  auto reading = exchange.read_body(kMaxAdminBody);
  YOKE_CO_CHECK(co_await std::move(reading));
  if (!hooks.reload) {
    co_return fail(kNotSupported, "This server can't read its configuration again.");
  }
  auto reloading = hooks.reload();
  YOKE_CO_TRY(const ReloadReport report, co_await std::move(reloading));
  co_return reload_json(report);
}

// What a GET answers out of the published state.
Result<std::string> Gateway::Impl::page(const http::RequestHead& request) const {
  const std::string_view path = request.path();
  const auto table = control.routes();
  const bool known = path == "/health" || path == "/metrics" || path == "/yoke/v1/logs" ||
                     path == kModelsPath || path.starts_with(std::string(kModelsPath) + "/");
  if (!known) {
    return fail(kNotFound, fmt::format("There is nothing at {}.", path),
                "The API is at /v1/chat/completions, /v1/completions, /v1/embeddings and "
                "/v1/models.");
  }
  if (request.method != "GET" && request.method != "HEAD") {
    return fail(kMethodNotAllowed, fmt::format("{} takes GET only.", path));
  }
  if (path == "/health") return health_json(*table);
  if (path == "/metrics") return metrics.text(*table);
  return models_page(path, *table);
}

Result<std::string> Gateway::Impl::models_page(std::string_view path,
                                               const RouteTable& table) const {
  if (path == kModelsPath) {
    json::array models;
    for (const Route& route : table.routes) models.push_back(model_json(route, started));
    json::object body{{"object", "list"}, {"data", std::move(models)}};
    return json::serialize(body);
  }
  const std::string_view encoded = path.substr(kModelsPath.size() + 1);
  const auto decoded = boost::urls::make_pct_string_view({encoded.data(), encoded.size()});
  const std::string name = decoded ? decoded->decode() : std::string(encoded);
  const Route* route = table.find(name);
  if (route == nullptr) {
    return fail(scheduler::kModelNotFound, fmt::format("There is no model '{}' here.", name),
                "GET /v1/models lists the models there are.");
  }
  return json::serialize(model_json(*route, started));
}

io::Task<Result<void>> Gateway::Impl::serve_model(http::Exchange& exchange,
                                                  const Settings& settings, RouteKind kind) {
  auto reading = exchange.read_body(settings.config.max_request_bytes);
  auto read = co_await std::move(reading);
  if (!read) {
    Error& error = read.error();
    if (error.code == http::kBodyTooLarge)
      error.hint = "max_request_size in [server] is the limit.";
    co_return fail(std::move(error));
  }
  std::string body = std::move(*read);
  YOKE_CO_TRY(const RequestFields fields, read_request_fields(body));
  if (!fields.model) {
    co_return fail(kModelRequired, "The request names no model.",
                   "Set \"model\" to one of those that GET /v1/models lists.");
  }
  // From here on the client is watched: it may leave while the model loads or reads the prompt.
  const auto table = control.routes();
  const Route* route = table->find(*fields.model);
  const auto engine = route != nullptr ? route->kind : engines::EngineKind::kLlamaCpp;
  EngineRequest request = make_engine_request(kind, engine, fields, std::move(body));
  auto work = forward(exchange, settings, *fields.model, std::move(request));
  auto watching = exchange.client_gone();
  auto outcome = co_await io::wait_for_one(std::move(work), std::move(watching));
  if (outcome.index() == 1) co_return fail(http::kPeerClosed, "The client left.");
  co_return std::move(std::get<0>(outcome));
}

io::Task<Result<void>> Gateway::Impl::forward(http::Exchange& exchange, const Settings& settings,
                                              std::string model, EngineRequest request) {
  const auto table = control.routes();
  std::optional<ActiveRequest> active;
  if (const Route* route = table->find(model)) {
    YOKE_CO_CHECK(check_type(*route, request.kind));
    active.emplace(route->load);
  }
  const FailoverLimits limits{settings.config.start_timeout,
                              {settings.config.first_byte_timeout, settings.config.idle_timeout}};
  Delivery delivery(exchange, cors_headers(settings.rules, exchange.request()), metrics);
  auto answering = answer(delivery, control, std::move(model), std::move(request), limits);
  co_return co_await std::move(answering);
}

Result<std::unique_ptr<Gateway>> Gateway::start(io::ContextPool& pool,
                                                supervisor::ControlLoop& control,
                                                const config::ServerConfig& config,
                                                GatewayHooks hooks) {
  YOKE_CHECK(config::check_exposure(config));
  auto impl = std::make_unique<Impl>(control, config, std::move(hooks));
  http::ServerOptions options;
  options.address = config.host;
  options.port = config.port;
  options.max_body_bytes = config.max_request_bytes;
  options.error_body = [](int status, const Error& error) {
    return http::ErrorBody{"application/json", error_body(status, error)};
  };
  auto handler = [gateway = impl.get()](http::Exchange& exchange) {
    return gateway->handle(exchange);
  };
  YOKE_TRY(impl->server, http::Server::start(pool, std::move(options), std::move(handler)));
  return std::unique_ptr<Gateway>(new Gateway(std::move(impl)));
}

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::~Gateway() = default;
std::uint16_t Gateway::port() const { return impl_->server->port(); }

void Gateway::reconfigure(const config::ServerConfig& config) {
  const auto before = impl_->present.get();
  config::ServerConfig next = config;
  next.host = before->config.host;  // Where it listens.
  next.port = before->config.port;
  if (!config::check_exposure(next)) {
    log::warning("The API key stays until the restart: without one, other machines could use {}.",
                 next.host);
    next.api_key = before->config.api_key;
  }
  impl_->present.set(Settings(next));
}

void Gateway::stop(std::chrono::milliseconds grace) {
  impl_->control.end_waits();  // The grace is for answers, not for those who wait for one.
  impl_->server->stop(grace);
}

}  // namespace yoke::gateway
