#include "http/client.h"

#include <boost/asio/steady_timer.hpp>
#include <gtest/gtest.h>

#include "http/test_support.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"

namespace yoke::http {
namespace {

using namespace std::chrono_literals;
using testing::RawClient;
using testing::RawServer;
using testing::run_task;

ClientRequest get(std::uint16_t port) { return ClientRequest{{"127.0.0.1", port}, {}, {}}; }

struct Fetched {
  int status = 0;
  std::string body;
};

io::Task<Result<Fetched>> fetch(ClientRequest request, ClientTimeouts timeouts) {
  YOKE_CO_TRY(auto response, co_await send(std::move(request), timeouts));
  YOKE_CO_TRY(std::string body, co_await response->read_all(100u << 20));
  co_return Fetched{response->head().status, std::move(body)};
}

// Serves one connection with `reply` once the request's head is there.
class OneReply {
 public:
  explicit OneReply(std::string reply)
      : thread_([this, reply = std::move(reply)] {
          RawClient peer = server_.accept();
          request_ = peer.receive_until("\r\n\r\n");
          peer.send(reply);
        }) {}
  ~OneReply() {
    if (thread_.joinable()) thread_.join();
  }
  std::uint16_t port() const { return server_.port(); }
  const std::string& request() {
    thread_.join();
    return request_;
  }

 private:
  RawServer server_;
  std::string request_;
  std::thread thread_;
};

Result<Fetched> fetch_reply(std::string reply) {
  OneReply server(std::move(reply));
  return run_task(fetch(get(server.port()), {}));
}

TEST(Client, ReadsCountedChunkedAndUnboundedBodies) {
  EXPECT_EQ(fetch_reply("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")->body, "hello");
  EXPECT_EQ(fetch_reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")
                ->body,
            "hello");
  EXPECT_EQ(fetch_reply("HTTP/1.1 200 OK\r\n\r\nhello")->body, "hello");
  EXPECT_EQ(fetch_reply("HTTP/1.1 503 Nope\r\nContent-Length: 0\r\n\r\n")->status, 503);
}

// Beast's default limit for a response body is 8 MB.
TEST(Client, ReadsAStreamOfMoreThanEightMegabytes) {
  constexpr int kChunks = 700;
  const std::string chunk(16384, 'x');
  std::string reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < kChunks; ++i) reply += "4000\r\n" + chunk + "\r\n";
  reply += "0\r\n\r\n";
  EXPECT_EQ(fetch_reply(std::move(reply))->body.size(), kChunks * chunk.size());
}

// Beast's default limit for a head is 8 KB.
TEST(Client, TakesALargeHead) {
  const std::string value(30'000, 'v');
  const auto fetched =
      fetch_reply("HTTP/1.1 200 OK\r\nX-Large: " + value + "\r\nContent-Length: 2\r\n\r\nok");
  ASSERT_TRUE(fetched) << fetched.error().text();
  EXPECT_EQ(fetched->body, "ok");
}

TEST(Client, SendsOneWholeRequest) {
  OneReply server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  ClientRequest request{{"127.0.0.1", server.port()}, {"POST", "/v1/x"}, "{}"};
  request.head.headers.set("Content-Type", "application/json");
  ASSERT_TRUE(run_task(fetch(std::move(request), {})));
  const std::string host = "Host: 127.0.0.1:" + std::to_string(server.port());
  EXPECT_EQ(server.request(), "POST /v1/x HTTP/1.1\r\n" + host +
                                  "\r\nConnection: close\r\nContent-Length: 2\r\n"
                                  "Content-Type: application/json\r\n\r\n");
}

TEST(Client, TellsACutAnswerFromAWholeOne) {
  const auto counted = fetch_reply("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello");
  EXPECT_EQ(counted.error().code, kPeerClosed);
  const auto chunked =
      fetch_reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
  EXPECT_EQ(chunked.error().code, kPeerClosed);
  EXPECT_EQ(fetch_reply("").error().code, kPeerClosed);
}

TEST(Client, ReportsWhatIsNoHttp) {
  EXPECT_EQ(fetch_reply("SSH-2.0-OpenSSH_9.2\r\n\r\n").error().code, kBadResponse);
  const auto bad_chunk =
      fetch_reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n");
  EXPECT_EQ(bad_chunk.error().code, kBadResponse);
}

TEST(Client, ReportsAPortWhereNobodyListens) {
  std::uint16_t port = 0;
  {
    RawServer server;
    port = server.port();
  }
  const auto fetched = run_task(fetch(get(port), {}));
  EXPECT_EQ(fetched.error().code, kUnreachable);
  EXPECT_NE(fetched.error().message.find(std::to_string(port)), std::string::npos);
}

TEST(Client, GivesUpOnASilentServer) {
  RawServer server;  // The kernel accepts; nobody answers.
  ClientTimeouts timeouts;
  timeouts.head = 50ms;
  EXPECT_EQ(run_task(fetch(get(server.port()), timeouts)).error().code, kTimeout);
}

TEST(Client, GivesUpOnAStreamThatStalls) {
  RawServer server;
  std::thread thread([&] {
    RawClient peer = server.accept();
    peer.receive_until("\r\n\r\n");
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    peer.receive_all();  // Until the client has gone.
  });
  ClientTimeouts timeouts;
  timeouts.idle = 50ms;
  EXPECT_EQ(run_task(fetch(get(server.port()), timeouts)).error().code, kTimeout);
  thread.join();
}

io::Task<void> cancelled_in_prefill(std::uint16_t port, Error& error) {
  auto fetching = [](std::uint16_t to, Error& out) -> io::Task<void> {
    auto fetched = co_await fetch(get(to), {});
    if (!fetched) out = fetched.error();
  };
  auto work = fetching(port, error);
  auto clock = io::sleep_for(20ms);
  co_await io::wait_for_one(std::move(work), std::move(clock));
}

TEST(Client, ACancelledRequestClosesItsConnection) {
  RawServer server;
  bool closed = false;
  std::thread thread([&] {
    RawClient peer = server.accept();
    peer.receive_until("\r\n\r\n");
    closed = peer.receive_all().empty();
  });
  Error error{kInternal, {}};
  run_task(cancelled_in_prefill(server.port(), error));
  thread.join();
  EXPECT_EQ(error.code, kCancelled);
  EXPECT_TRUE(closed);
}

}  // namespace
}  // namespace yoke::http
