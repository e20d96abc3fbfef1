#include "http/server.h"

#include <future>
#include <unordered_set>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <fmt/format.h>

#include "base/log.h"
#include "http/connection.h"
#include "io/task_group.h"

namespace yoke::http {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using namespace std::chrono_literals;
using ErrorCondition = boost::system::error_code;

constexpr auto kAcceptRetry = 100ms;
// For tasks that were cancelled to end.
constexpr auto kCancelLimit = 10s;

// What one context of the pool holds of the server; only on its thread.
struct Core {
  explicit Core(asio::io_context& context) : tasks(context.get_executor()) {}
  io::TaskGroup tasks;
  std::unordered_set<Connection*> connections;
};

// A connection with its entry in the core's books.
struct OpenConnection {
  OpenConnection(Core& its_core, std::atomic<std::size_t>& open_count, tcp::socket socket,
                 const ServerOptions& options, const Handler& handler)
      : core(its_core),
        open(open_count),
        connection(std::make_unique<Connection>(std::move(socket), options, handler)) {
    core.connections.insert(connection.get());
  }
  ~OpenConnection() {
    core.connections.erase(connection.get());
    open.fetch_sub(1, std::memory_order_relaxed);
  }
  OpenConnection(const OpenConnection&) = delete;
  OpenConnection& operator=(const OpenConnection&) = delete;

  Core& core;
  std::atomic<std::size_t>& open;
  std::unique_ptr<Connection> connection;
};

}  // namespace

struct Server::Impl {
  Impl(io::ContextPool& context_pool, ServerOptions server_options, Handler on_request)
      : pool(context_pool),
        options(std::move(server_options)),
        handler(std::move(on_request)),
        acceptor(pool.at(0)),
        accepting(pool.at(0).get_executor()) {
    for (std::size_t i = 0; i < pool.size(); ++i) {
      cores.push_back(std::make_unique<Core>(pool.at(i)));
    }
  }

  Result<void> listen();
  io::Task<void> accept_loop();
  io::Task<void> serve(Core& core, tcp::socket socket);
  io::Task<void> stop_accepting();
  io::Task<void> stop_core(Core& core, std::chrono::milliseconds grace);
  void turn_away(tcp::socket socket);

  io::ContextPool& pool;
  const ServerOptions options;
  const Handler handler;
  tcp::acceptor acceptor;
  io::TaskGroup accepting;
  std::vector<std::unique_ptr<Core>> cores;
  std::atomic<std::size_t> open{0};
  std::uint16_t port = 0;
  bool stopped = false;
};

Result<void> Server::Impl::listen() {
  ErrorCondition error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error) {
    return fail(kInvalidArgument, fmt::format("'{}' is no IP address.", options.address),
                "Use an address such as 127.0.0.1, ::1 or 0.0.0.0.");
  }
  const tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error == asio::error::address_in_use) {
    return fail(
        kAddressInUse,
        fmt::format("Port {} of {} is taken by another program.", options.port, options.address),
        fmt::format("End that program (`ss -ltnp sport = :{}` names it) or set another "
                    "port in `listen`.",
                    options.port));
  }
  if (error) {
    return fail(kIo, fmt::format("Cannot listen on {}, port {}: {}.", options.address, options.port,
                                 error.message()));
  }
  port = acceptor.local_endpoint().port();
  return {};
}

io::Task<void> Server::Impl::accept_loop() {
  while (acceptor.is_open()) {
    const std::size_t turn = pool.next_index();
    ErrorCondition error;
    tcp::socket socket = co_await acceptor.async_accept(pool.at(turn), io::into(error));
    if (error == asio::error::operation_aborted || !acceptor.is_open()) co_return;
    if (error) {
      // Out of descriptors, most likely: wait for connections to end rather than spin.
      log::warning("Cannot accept a connection: {}.", error.message());
      asio::steady_timer timer(acceptor.get_executor(), kAcceptRetry);
      co_await timer.async_wait(io::into(error));
      continue;
    }
    if (open.load(std::memory_order_relaxed) >= options.max_connections) {
      turn_away(std::move(socket));
      continue;
    }
    open.fetch_add(1, std::memory_order_relaxed);
    Core& core = *cores[turn];
    asio::post(pool.at(turn), [this, &core, socket = std::move(socket)]() mutable {
      core.tasks.spawn(serve(core, std::move(socket)));
    });
  }
}

void Server::Impl::turn_away(tcp::socket socket) {
  static constexpr std::string_view kBusy =
      "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
      "Connection: close\r\n\r\n";
  ErrorCondition ignored;
  socket.non_blocking(true, ignored);
  socket.write_some(asio::buffer(kBusy), ignored);
}

io::Task<void> Server::Impl::serve(Core& core, tcp::socket socket) {
  const OpenConnection connection(core, open, std::move(socket), options, handler);
  co_await connection.connection->run();
}

io::Task<void> Server::Impl::stop_accepting() {
  ErrorCondition ignored;
  acceptor.close(ignored);
  accepting.cancel();
  co_await accepting.join(kCancelLimit);
}

io::Task<void> Server::Impl::stop_core(Core& core, std::chrono::milliseconds grace) {
  for (Connection* connection : core.connections) connection->finish();
  const bool ended = co_await core.tasks.join(grace);
  if (ended) co_return;
  core.tasks.cancel();
  co_await core.tasks.join(kCancelLimit);
}

Result<std::unique_ptr<Server>> Server::start(io::ContextPool& pool, ServerOptions options,
                                              Handler handler) {
  auto impl = std::make_unique<Impl>(pool, std::move(options), std::move(handler));
  YOKE_CHECK(impl->listen());
  asio::post(pool.at(0), [&server = *impl] { server.accepting.spawn(server.accept_loop()); });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { stop(0ms); }

std::uint16_t Server::port() const { return impl_->port; }
std::size_t Server::connections() const { return impl_->open.load(std::memory_order_relaxed); }

void Server::stop(std::chrono::milliseconds grace) {
  if (std::exchange(impl_->stopped, true)) return;
  asio::co_spawn(impl_->pool.at(0), impl_->stop_accepting(), asio::use_future).get();
  std::vector<std::future<void>> stopping;
  for (std::size_t i = 0; i < impl_->cores.size(); ++i) {
    stopping.push_back(asio::co_spawn(impl_->pool.at(i), impl_->stop_core(*impl_->cores[i], grace),
                                      asio::use_future));
  }
  for (auto& core : stopping) core.get();
}

// The calls of Exchange go to its connection.
const RequestHead& Exchange::request() const { return connection_.request(); }
io::Task<Result<std::string>> Exchange::read_body(std::optional<std::uint64_t> max_bytes) {
  return connection_.read_body(max_bytes);
}
io::Task<Result<void>> Exchange::reply(ResponseHead head, std::string body) {
  return connection_.reply(std::move(head), std::move(body));
}
io::Task<Result<void>> Exchange::begin_reply(ResponseHead head) {
  return connection_.begin_reply(std::move(head));
}
io::Task<Result<void>> Exchange::write(std::string_view piece) { return connection_.write(piece); }
io::Task<Result<void>> Exchange::end_reply() { return connection_.end_reply(); }
bool Exchange::reply_begun() const { return connection_.reply_begun(); }
io::Task<void> Exchange::client_gone() { return connection_.client_gone(); }

}  // namespace yoke::http
