#include "http/server.h"

#include <atomic>

#include <boost/asio/steady_timer.hpp>
#include <gtest/gtest.h>

#include "http/test_support.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"

namespace yoke::http {
namespace {

using namespace std::chrono_literals;
using testing::RawClient;

// What a test's handler needs of the test; the handlers are plain functions because a lambda that
// is a coroutine must not capture.
struct Shared {
  std::atomic<int> requests{0};
  std::atomic<int> clients_gone{0};
  std::atomic<int> chunks_sent{0};
};

using Serve = io::Task<void> (*)(Exchange&, Shared&);

struct Fixture {
  explicit Fixture(Serve serve, ServerOptions options = {}) : pool(2) {
    auto handler = [this, serve](Exchange& exchange) { return serve(exchange, shared); };
    server = Server::start(pool, std::move(options), handler).value();
  }
  ~Fixture() { server->stop(0ms); }
  RawClient client() { return RawClient(server->port()); }

  Shared shared;
  io::ContextPool pool;
  std::unique_ptr<Server> server;
};

// Waits for something that another thread does, at most five seconds.
template <class F>
bool eventually(F condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

io::Task<void> echo(Exchange& exchange, Shared& shared) {
  ++shared.requests;
  auto body = co_await exchange.read_body();
  if (!body) {
    ResponseHead head{body.error().code == kBodyTooLarge ? 413 : 400};
    co_await exchange.reply(std::move(head), body.error().text());
    co_return;
  }
  ResponseHead head;
  std::string text = exchange.request().method + " " + exchange.request().target + " " + *body;
  co_await exchange.reply(std::move(head), std::move(text));
}

std::string read_reply(RawClient& client) {
  std::string head = client.receive_until("\r\n\r\n");
  const auto at = head.find("Content-Length: ");
  if (at == std::string::npos) return head;
  std::size_t length = std::stoul(head.substr(at + 16));
  std::string body;
  // receive_until works on text; the bodies of these tests end with a known character.
  while (body.size() < length) body += client.receive_until(std::string_view("\n"));
  return head + body;
}

TEST(Server, AnswersAndKeepsTheConnection) {
  Fixture f(echo);
  RawClient client = f.client();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nhi\n"));
    const std::string reply = read_reply(client);
    EXPECT_TRUE(reply.starts_with("HTTP/1.1 200 OK\r\n")) << reply;
    EXPECT_TRUE(reply.ends_with("POST /a hi\n")) << reply;
  }
  EXPECT_EQ(f.server->connections(), 1u);
}

TEST(Server, AnswersPipelinedRequestsInTheirOrder) {
  Fixture f(echo);
  RawClient client = f.client();
  std::string requests;
  for (int i = 0; i < 50; ++i) {
    requests +=
        "POST /" + std::to_string(i) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n\n";
  }
  ASSERT_TRUE(client.send(requests));
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(read_reply(client).ends_with("POST /" + std::to_string(i) + " \n")) << i;
  }
}

TEST(Server, ClosesWhenTheClientAsksForIt) {
  Fixture f(echo);
  RawClient client = f.client();
  client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(client.receive_all().ends_with("GET / "));
  EXPECT_TRUE(eventually([&] { return f.server->connections() == 0; }));
}

TEST(Server, AnswersHttp10WithoutChunks) {
  Fixture f([](Exchange& exchange, Shared&) -> io::Task<void> {
    ResponseHead head;
    co_await exchange.begin_reply(std::move(head));
    co_await exchange.write("one");
    co_await exchange.write("two");
    co_await exchange.end_reply();
  });
  RawClient client = f.client();
  client.send("GET / HTTP/1.0\r\n\r\n");
  const std::string reply = client.receive_all();
  EXPECT_TRUE(reply.ends_with("\r\n\r\nonetwo")) << reply;
  EXPECT_EQ(reply.find("chunked"), std::string::npos);
}

TEST(Server, RefusesABodyOverTheLimitBeforeItIsSent) {
  ServerOptions options;
  options.max_body_bytes = 1000;
  Fixture f(echo, options);
  RawClient client = f.client();
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
  EXPECT_TRUE(client.receive_until("\r\n\r\n").starts_with("HTTP/1.1 413 "));
}

TEST(Server, AClientThatSendsOnAllTheSameStillGetsThatAnswer) {
  ServerOptions options;
  options.max_body_bytes = 1000;
  Fixture f(echo, options);
  RawClient client = f.client();
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n");
  ASSERT_TRUE(client.send(std::string(20'000'000, 'x'))) << "the server must read what it refuses";
  EXPECT_TRUE(client.receive_all().starts_with("HTTP/1.1 413 "));
}

TEST(Server, CountsAChunkedBodyAgainstTheLimit) {
  ServerOptions options;
  options.max_body_bytes = 1000;
  Fixture f(echo, options);
  RawClient client = f.client();
  client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) client.send("64\r\n" + std::string(100, 'x') + "\r\n");
  EXPECT_TRUE(client.receive_until("\r\n\r\n").starts_with("HTTP/1.1 413 "));
}

TEST(Server, SaysContinueToAClientThatWaitsForIt) {
  Fixture f(echo);
  RawClient client = f.client();
  client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.receive_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hi\n");
  EXPECT_TRUE(read_reply(client).ends_with("POST / hi\n"));
}

TEST(Server, RefusesAHeaderBombAndLivesOn) {
  Fixture f(echo);
  RawClient client = f.client();
  client.send("GET / HTTP/1.1\r\nHost: x\r\n");
  for (int i = 0; i < 2000; ++i) {
    if (!client.send("X-Bomb: " + std::string(1000, 'b') + "\r\n")) break;
  }
  EXPECT_TRUE(client.receive_all().starts_with("HTTP/1.1 431 "));
  RawClient next = f.client();
  next.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(next.receive_all().starts_with("HTTP/1.1 200 "));
}

TEST(Server, RefusesWhatIsNoHttpAndConflictingLengths) {
  Fixture f(echo);
  for (const char* request :
       {"\x16\x03\x01\x02\r\n\r\n", "GET\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"}) {
    RawClient client = f.client();
    client.send(request);
    EXPECT_TRUE(client.receive_all().starts_with("HTTP/1.1 400 ")) << request;
  }
  EXPECT_EQ(f.shared.requests, 0);
}

TEST(Server, UsesTheGivenBodyForItsOwnErrors) {
  ServerOptions options;
  options.error_body = [](int status, const Error& error) {
    return ErrorBody{"application/json", "{\"s\":" + std::to_string(status) + ",\"c\":\"" +
                                             std::string(error.code.name()) + "\"}"};
  };
  Fixture f(echo, options);
  RawClient client = f.client();
  client.send("nonsense\r\n\r\n");
  EXPECT_TRUE(client.receive_all().ends_with("{\"s\":400,\"c\":\"bad_request\"}"));
}

TEST(Server, EndsSlowAndIdleConnections) {
  ServerOptions options;
  options.idle_timeout = 30ms;
  options.header_timeout = 30ms;
  options.body_timeout = 30ms;
  Fixture f(echo, options);
  RawClient idle = f.client();
  EXPECT_EQ(idle.receive_all(), "");
  RawClient slow_head = f.client();
  slow_head.send("GET / HT");
  EXPECT_TRUE(slow_head.receive_all().starts_with("HTTP/1.1 408 "));
  RawClient slow_body = f.client();
  slow_body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  slow_body.receive_all();
  EXPECT_TRUE(eventually([&] { return f.server->connections() == 0; }));
}

// A handler in the state of a gateway whose engine has not said a word yet.
io::Task<void> silent_until_client_leaves(Exchange& exchange, Shared& shared) {
  ++shared.requests;
  co_await exchange.read_body();
  co_await exchange.client_gone();
  ++shared.clients_gone;
}

TEST(Server, NoticesAClientThatLeavesBeforeTheFirstByte) {
  Fixture f(silent_until_client_leaves);
  RawClient client = f.client();
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] { return f.shared.requests == 1; }));
  EXPECT_EQ(f.shared.clients_gone, 0);
  client.close();
  EXPECT_TRUE(eventually([&] { return f.shared.clients_gone == 1; }));
}

TEST(Server, NoticesItBehindPipelinedBytesToo) {
  Fixture f(silent_until_client_leaves);
  for (const std::size_t pipelined : {100u, 300'000u}) {
    const int before = f.shared.clients_gone;
    RawClient client = f.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send("POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + std::string(pipelined, 'x'));
    ASSERT_TRUE(eventually([&] { return f.shared.requests > before; }));
    client.close();
    EXPECT_TRUE(eventually([&] { return f.shared.clients_gone == before + 1; })) << pipelined;
  }
}

io::Task<void> watch_then_answer(Exchange& exchange, Shared& shared) {
  auto watch = exchange.client_gone();
  auto work = io::sleep_for(20ms);
  co_await io::wait_for_one(std::move(watch), std::move(work));
  co_await echo(exchange, shared);
}

TEST(Server, WhatWasReadAheadIsTheNextRequest) {
  Fixture f(watch_then_answer);
  RawClient client = f.client();
  client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
  client.send("GET /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\n");
  client.send("Connection: close\r\n\r\n");
  const std::string replies = client.receive_all();
  EXPECT_NE(replies.find("GET /1 "), std::string::npos) << replies;
  EXPECT_NE(replies.find("GET /2 "), std::string::npos) << replies;
  EXPECT_TRUE(replies.ends_with("GET /3 ")) << replies;
}

io::Task<void> stream_without_end(Exchange& exchange, Shared& shared) {
  ResponseHead head;
  co_await exchange.begin_reply(std::move(head));
  const std::string piece(65536, 'p');
  while (true) {
    const auto written = co_await exchange.write(piece);
    if (!written) break;
    ++shared.chunks_sent;
  }
  ++shared.clients_gone;
}

TEST(Server, WaitsForAClientThatDoesNotRead) {
  Fixture f(stream_without_end);
  RawClient client = f.client();
  const int small = 4096;
  ::setsockopt(client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  // The kernel's buffers fill, then nothing moves: two looks in a row see the same count.
  int before = -1;
  ASSERT_TRUE(eventually([&] {
    std::this_thread::sleep_for(100ms);
    return std::exchange(before, f.shared.chunks_sent.load()) == f.shared.chunks_sent && before > 0;
  }));
  EXPECT_LT(f.shared.chunks_sent, 200)
      << "more than 13 MB are in flight to a client that reads nothing";
  client.close();
  EXPECT_TRUE(eventually([&] { return f.shared.clients_gone == 1; }));
}

TEST(Server, CutsOffAClientThatNeverReads) {
  ServerOptions options;
  options.write_timeout = 50ms;
  Fixture f(stream_without_end, options);
  RawClient client = f.client();
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return f.server->connections() == 0; }));
}

// One small chunk must leave at once: framing and data in one segment, without Nagle's delay.
TEST(Server, SendsEachPieceAtOnceAsOneChunk) {
  Fixture f([](Exchange& exchange, Shared&) -> io::Task<void> {
    ResponseHead head;
    co_await exchange.begin_reply(std::move(head));
    co_await exchange.write("data: a\n\n");
    co_await io::sleep_for(100ms);
    co_await exchange.write("data: b\n\n");
    co_await exchange.end_reply();
  });
  RawClient client = f.client();
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  client.receive_until("\r\n\r\n");
  EXPECT_EQ(client.receive_some(), "9\r\ndata: a\n\n\r\n");
  EXPECT_EQ(client.receive_until("0\r\n\r\n"), "9\r\ndata: b\n\n\r\n0\r\n\r\n");
}

TEST(Server, AHandlerThatStopsHalfwayShowsAsACutReply) {
  Fixture f([](Exchange& exchange, Shared&) -> io::Task<void> {
    ResponseHead head;
    co_await exchange.begin_reply(std::move(head));
    co_await exchange.write("half");
    throw std::runtime_error("broken");
  });
  RawClient client = f.client();
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.receive_all().find("0\r\n\r\n"), std::string::npos);
}

TEST(Server, ReportsATakenPort) {
  Fixture f(echo);
  ServerOptions options;
  options.port = f.server->port();
  const auto second =
      Server::start(f.pool, options, [](Exchange&) -> io::Task<void> { co_return; });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, kAddressInUse);
  options.address = "localhostt";
  const auto third = Server::start(f.pool, options, [](Exchange&) -> io::Task<void> { co_return; });
  EXPECT_EQ(third.error().code, kInvalidArgument);
}

io::Task<void> slow_answer(Exchange& exchange, Shared& shared) {
  ++shared.requests;
  co_await io::sleep_for(100ms);
  co_await echo(exchange, shared);
}

TEST(Server, StopLetsRunningRepliesEndAndClosesIdleConnections) {
  Fixture f(slow_answer);
  RawClient idle = f.client();
  RawClient busy = f.client();
  busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] { return f.shared.requests == 1; }));
  f.server->stop(5s);
  EXPECT_TRUE(busy.receive_all().ends_with("GET /slow "));
  EXPECT_EQ(idle.receive_all(), "");
  EXPECT_EQ(f.server->connections(), 0u);
}

TEST(Server, StopCutsWhatDoesNotEnd) {
  Fixture f(silent_until_client_leaves);
  RawClient client = f.client();
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] { return f.shared.requests == 1; }));
  f.server->stop(20ms);
  EXPECT_EQ(client.receive_all(), "");
  EXPECT_EQ(f.server->connections(), 0u);
}

}  // namespace
}  // namespace yoke::http
