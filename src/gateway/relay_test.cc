#include "gateway/relay.h"

#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gateway/api_error.h"
#include "http/test_support.h"
#include "io/wait_for_one.h"

namespace yoke::gateway {
namespace {

using namespace std::chrono_literals;
using http::testing::RawClient;
using http::testing::RawServer;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A gateway of one route: relays to an engine that the test plays by hand.
class Relay : public testing::Test {
 protected:
  Relay() : pool_(1) {
    auto handler = [this](http::Exchange& exchange) { return serve(exchange, *this); };
    server_ = http::Server::start(pool_, {}, handler).value();
  }
  ~Relay() override { server_->stop(0ms); }

  static io::Task<void> serve(http::Exchange& exchange, Relay& test) {
    auto body = co_await exchange.read_body();
    RelayTarget target{"m", {"127.0.0.1", test.engine_.port()}, test.key_, nullptr, test.limits_};
    Delivery delivery(exchange, {{"X-Extra", "1"}}, test.metrics_);
    EngineRequest request{std::move(*body), test.form_, RouteKind::kChat};
    auto work = relay(delivery, std::move(target), std::move(request));
    auto watching = exchange.client_gone();
    auto outcome = co_await io::wait_for_one(std::move(work), std::move(watching));
    if (outcome.index() == 1 || std::get<0>(outcome)) co_return;
    Error& error = std::get<0>(outcome).error();
    if (delivery.begun()) {
      auto ending = delivery.end_with(std::move(error));
      co_await std::move(ending);
      co_return;
    }
    ErrorReply reply = error_reply(error);
    co_await exchange.reply(std::move(reply.head), std::move(reply.body));
  }

  RawClient request() {
    RawClient client(server_->port());
    client.send(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
        "Content-Type: application/json\r\nX-Conversation-Id: 7\r\nContent-Length: 2\r\n\r\n{}");
    return client;
  }

  // The engine's end of a request that has arrived.
  RawClient engine_peer() {
    RawClient peer = engine_.accept();
    peer.receive_until("\r\n\r\n{}");
    return peer;
  }

  std::string key_;
  ReplyForm form_ = ReplyForm::kAsIs;
  RelayLimits limits_{5s, 5s};
  Metrics metrics_;
  RawServer engine_;
  io::ContextPool pool_;
  std::unique_ptr<http::Server> server_;
};

constexpr std::string_view kStreamHead =
    "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: *\r\n"
    "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

TEST_F(Relay, PassesTheRequestOnWithoutSecrets) {
  RawClient client = request();
  RawClient peer = engine_.accept();
  const std::string received = peer.receive_until("\r\n\r\n{}");
  EXPECT_THAT(received, StartsWith("POST /v1/chat/completions HTTP/1.1\r\n"));
  EXPECT_THAT(received, HasSubstr("X-Conversation-Id: 7\r\n"));
  EXPECT_THAT(received, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(received, Not(HasSubstr("secret")));
}

TEST_F(Relay, TheEngineGetsItsOwnKeyAndNotTheClients) {
  key_ = "for-the-engine";
  RawClient client = request();
  RawClient peer = engine_.accept();
  const std::string received = peer.receive_until("\r\n\r\n{}");
  EXPECT_THAT(received, HasSubstr("\r\nAuthorization: Bearer for-the-engine\r\n"));
  EXPECT_THAT(received, Not(HasSubstr("secret")));
  peer.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
  EXPECT_THAT(client.receive_until("}}"), Not(HasSubstr("for-the-engine")));
}

TEST_F(Relay, FramesTheStreamAnew) {
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(kStreamHead);
  // One event in two of the engine's chunks, sent in three segments cut inside the framing.
  peer.send("6\r\ndata: ");
  EXPECT_THAT(client.receive_until("6\r\ndata: \r\n"), EndsWith("\r\n\r\n6\r\ndata: \r\n"));
  peer.send("\r\n3\r\nab");
  EXPECT_EQ(client.receive_until("2\r\nab\r\n"), "2\r\nab\r\n");
  peer.send("\n\r\n0\r\n\r\n");
  EXPECT_EQ(client.receive_until("0\r\n\r\n"), "1\r\n\n\r\n0\r\n\r\n");
}

TEST_F(Relay, MindsTheHeadersOfAStream) {
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(std::string(kStreamHead) + "1\r\nx\r\n0\r\n\r\n");
  const std::string reply = client.receive_until("0\r\n\r\n");
  EXPECT_THAT(reply, HasSubstr("\r\nX-Accel-Buffering: no\r\n"));
  EXPECT_THAT(reply, HasSubstr("\r\nCache-Control: no-cache\r\n"));
  EXPECT_THAT(reply, HasSubstr("\r\nX-Extra: 1\r\n"));
  EXPECT_THAT(reply, Not(HasSubstr("Access-Control")));
  EXPECT_THAT(reply, Not(HasSubstr("llama.cpp")));
}

TEST_F(Relay, GivesTheEnginesRefusalsAStableCode) {
  RawClient client = request();
  RawClient peer = engine_peer();
  const std::string body =
      R"({"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}})";
  peer.send("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: " +
            std::to_string(body.size()) + "\r\n\r\n" + body);
  const std::string reply = client.receive_until("}}");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(reply, HasSubstr("\"message\":\"too long\""));
  EXPECT_THAT(reply, HasSubstr("\"code\":\"context_length_exceeded\""));
}

TEST_F(Relay, AnEngineErrorWithoutAReasonIsOneAllTheSame) {
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops");
  const std::string reply = client.receive_until("}}");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 502 "));
  EXPECT_THAT(reply, HasSubstr("\"code\":\"engine_error\""));
}

TEST_F(Relay, KeepsTheLengthOfAWholeAnswer) {
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{\"\"}");
  const std::string reply = client.receive_until("{\"\"}");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(reply, HasSubstr("Content-Length: 4\r\n"));
}

TEST_F(Relay, AnEngineThatDiesBeforeItsFirstByteIsAnError) {
  RawClient client = request();
  {
    RawClient peer = engine_peer();
    peer.send(kStreamHead);  // llama-server sends its head before the prefill.
  }
  EXPECT_THAT(client.receive_until("}}"), StartsWith("HTTP/1.1 503 "));
}

TEST_F(Relay, AnEngineThatDiesLaterEndsTheStreamWithAnErrorEvent) {
  RawClient client = request();
  {
    RawClient peer = engine_peer();
    peer.send(std::string(kStreamHead) + "9\r\ndata: a\n\n\r\n");
  }
  const std::string reply = client.receive_until("0\r\n\r\n");
  EXPECT_THAT(reply, HasSubstr("data: a\n\n"));
  EXPECT_THAT(reply, HasSubstr("data: {\"error\":{"));
  EXPECT_THAT(reply, HasSubstr("\"code\":\"engine_failed\""));
  EXPECT_THAT(reply, EndsWith("0\r\n\r\n"));
}

TEST_F(Relay, AnEngineThatDiesBehindItsLastEventHasSaidAll) {
  form_ = ReplyForm::kStream;
  RawClient client = request();
  {
    RawClient peer = engine_peer();
    peer.send(kStreamHead);
    peer.send("f\r\ndata: {\"a\":1}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n");
    client.receive_until("data: [DONE]\n\n");
  }
  EXPECT_THAT(client.receive_until("0\r\n\r\n"), Not(HasSubstr("error")));
}

TEST_F(Relay, AWholeReplyNeedsNothingBehindItsLastEvent) {
  form_ = ReplyForm::kWhole;
  RawClient client = request();
  {
    RawClient peer = engine_peer();
    peer.send(kStreamHead);
    peer.send(
        "2d\r\ndata: {\"choices\":[{\"index\":0,\"text\":\"ab\"}]}\n\n\r\n"
        "e\r\ndata: [DONE]\n\n\r\n");
  }
  EXPECT_THAT(client.receive_until("}]}"), HasSubstr("\"text\":\"ab\""));
}

TEST_F(Relay, ACutAnswerThatIsNoStreamIsCutForTheClientToo) {
  RawClient client = request();
  {
    RawClient peer = engine_peer();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"half\":");
  }
  const std::string reply = client.receive_all();
  EXPECT_THAT(reply, HasSubstr("Content-Length: 100\r\n"));
  EXPECT_THAT(reply, EndsWith("{\"half\":"));
}

TEST_F(Relay, AClientThatLeavesInPrefillClosesTheEnginesConnection) {
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(kStreamHead);
  client.close();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(peer.receive_all(), "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
}

TEST_F(Relay, AnEngineThatSaysNothingTimesOut) {
  limits_ = {50ms, 50ms};
  RawClient client = request();
  RawClient peer = engine_.accept();
  EXPECT_THAT(client.receive_until("}}"), StartsWith("HTTP/1.1 504 "));
}

constexpr std::string_view kProgress = "data: {\"prompt_progress\":{\"processed\":1}}\n\n";

// As one of the engine's chunks.
std::string chunk(std::string_view text) {
  return fmt::format("{:x}\r\n{}\r\n", text.size(), text);
}

TEST_F(Relay, ProgressOfThePromptStaysHere) {
  form_ = ReplyForm::kStream;
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(std::string(kStreamHead) + chunk(kProgress) + chunk(kProgress) + chunk("data: a\n\n") +
            chunk("data: [DONE]\n\n") + "0\r\n\r\n");
  const std::string reply = client.receive_until("0\r\n\r\n");
  EXPECT_THAT(reply, Not(HasSubstr("progress")));
  EXPECT_THAT(reply, EndsWith("data: [DONE]\n\n\r\n0\r\n\r\n"));
  EXPECT_THAT(reply, HasSubstr("\r\n\r\n9\r\ndata: a\n\n"));
}

TEST_F(Relay, AnEngineThatFailsInPrefillIsAnErrorWithAStatus) {
  form_ = ReplyForm::kStream;
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(std::string(kStreamHead) + chunk(kProgress) +
            chunk("data: {\"error\":{\"code\":500,\"message\":\"Something.\"}}\n\n") + "0\r\n\r\n");
  const std::string reply = client.receive_until("}}");
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 502 "));
  EXPECT_THAT(reply, HasSubstr("Something."));
}

constexpr std::string_view kBrokenEvent =
    "data: {\"error\":{\"code\":500,\"message\":\"decode() failed: ErrorDeviceLost\"}}\n\n";

TEST_F(Relay, AnEngineThatIsBrokenSaysSo) {
  for (const ReplyForm form : {ReplyForm::kAsIs, ReplyForm::kStream, ReplyForm::kWhole}) {
    form_ = form;
    RawClient client = request();
    RawClient peer = engine_peer();
    peer.send(std::string(kStreamHead) + chunk(kBrokenEvent) + "0\r\n\r\n");
    const std::string reply = client.receive_until("}}");
    EXPECT_THAT(reply, StartsWith("HTTP/1.1 503 "));
    EXPECT_THAT(reply, HasSubstr("\"code\":\"engine_broken\""));
  }
}

TEST_F(Relay, AnEngineThatBreaksInTheMiddleEndsTheStream) {
  for (const ReplyForm form : {ReplyForm::kAsIs, ReplyForm::kStream}) {
    form_ = form;
    RawClient client = request();
    RawClient peer = engine_peer();
    peer.send(std::string(kStreamHead) + chunk("data: a\n\n"));
    std::string reply = client.receive_until("data: a\n\n");
    peer.send(chunk(kBrokenEvent) + chunk("data: [DONE]\n\n") + "0\r\n\r\n");
    reply += client.receive_until("0\r\n\r\n");
    EXPECT_THAT(reply, HasSubstr("\"code\":\"engine_broken\""));
    EXPECT_THAT(reply, Not(HasSubstr("DONE")));
    EXPECT_EQ(reply.find("ErrorDeviceLost"), reply.rfind("ErrorDeviceLost"));
  }
}

TEST_F(Relay, AClientThatWaitsForAPromptGetsPings) {
  form_ = ReplyForm::kStream;
  limits_.ping = 1ms;
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(kStreamHead);
  std::this_thread::sleep_for(5ms);  // So that it is time for one.
  peer.send(chunk(kProgress));
  EXPECT_THAT(client.receive_until(":\n\n"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(Relay, TheLimitOfPrefillIsOneForAllOfItsProgress) {
  form_ = ReplyForm::kStream;
  limits_.first_byte = 100ms;
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(kStreamHead);
  const auto start = std::chrono::steady_clock::now();
  std::string reply;
  std::jthread engine([&](const std::stop_token& stop) {
    while (!stop.stop_requested() && std::chrono::steady_clock::now() - start < 5s) {
      peer.send(chunk(kProgress));
      std::this_thread::sleep_for(10ms);
    }
  });
  reply = client.receive_until("}}");
  engine.request_stop();
  EXPECT_THAT(reply, StartsWith("HTTP/1.1 504 "));
}

constexpr std::string_view kToken =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],"
    "\"object\":\"chat.completion.chunk\"}\n\n";

TEST_F(Relay, AWholeReplyIsPutTogether) {
  form_ = ReplyForm::kWhole;
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(std::string(kStreamHead) + chunk(kProgress) + chunk(kToken) + chunk(kToken) +
            chunk("data: [DONE]\n\n") + "0\r\n\r\n");
  const std::string reply = client.receive_until("}]");
  EXPECT_THAT(reply, HasSubstr("Content-Type: application/json; charset=utf-8\r\n"));
  EXPECT_THAT(reply, HasSubstr("\r\nX-Extra: 1\r\n"));
  EXPECT_THAT(reply, HasSubstr("\"content\":\"aa\""));
  EXPECT_THAT(reply, Not(HasSubstr("event-stream")));
}

TEST_F(Relay, AWholeReplyThatIsCutIsAnError) {
  form_ = ReplyForm::kWhole;
  for (const bool properly : {false, true}) {  // With the end of the chunks, or without.
    RawClient client = request();
    {
      RawClient peer = engine_peer();
      peer.send(std::string(kStreamHead) + chunk(kToken) + (properly ? "0\r\n\r\n" : ""));
    }
    EXPECT_THAT(client.receive_until("}}"), StartsWith("HTTP/1.1 503 "));
  }
}

TEST_F(Relay, AnErrorInAWholeReplyHasItsStatus) {
  form_ = ReplyForm::kWhole;
  RawClient client = request();
  RawClient peer = engine_peer();
  peer.send(std::string(kStreamHead) + chunk(kToken) +
            chunk("data: {\"error\":{\"code\":400,\"type\":\"exceed_context_size_error\"}}\n\n"));
  EXPECT_THAT(client.receive_until("}}"), StartsWith("HTTP/1.1 400 "));
}

}  // namespace
}  // namespace yoke::gateway
