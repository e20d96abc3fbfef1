#include "cli/server_client.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>

#include <gtest/gtest.h>

#include "cli/api_error.h"
#include "cli/ask.h"
#include "cli/known_models.h"
#include "http/server.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;

// What the server and the test have in common.
struct Shared {
  std::mutex mutex;
  std::vector<std::string> requests;  // "METHOD target authorization body"
  std::promise<void> left;            // The client of a silent reply has left.
};

constexpr std::string_view kDelta =
    R"(data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null}]})"
    "\n\n";
constexpr std::string_view kEnd = R"(data: {"choices":[{"delta":{},"finish_reason":"stop"}]})"
                                  "\n\ndata: [DONE]\n\n";

io::Task<void> reply_json(http::Exchange& exchange, int status, std::string body) {
  http::ResponseHead head{.status = status, .headers = {{"Content-Type", "application/json"}}};
  co_await exchange.reply(std::move(head), std::move(body));
}

io::Task<void> reply_events(http::Exchange& exchange, std::vector<std::string> pieces, bool end) {
  http::ResponseHead head{.headers = {{"Content-Type", "text/event-stream"}}};
  co_await exchange.begin_reply(std::move(head));
  for (const std::string& piece : pieces) co_await exchange.write(piece);
  if (end) co_await exchange.end_reply();
}

io::Task<void> handle(http::Exchange& exchange, Shared& shared) {
  auto body = co_await exchange.read_body();
  const http::RequestHead& request = exchange.request();
  {
    const std::lock_guard lock(shared.mutex);
    const auto key = request.headers.get("Authorization").value_or("-");
    shared.requests.push_back(request.method + " " + request.target + " " + std::string(key) + " " +
                              body.value_or("?"));
  }
  const std::string path(request.path());
  if (path == "/v1/models") {
    co_await reply_json(exchange, 200, R"({"data":[{"id":"smollm2"},{"id":"other"}]})");
  } else if (path == "/whole/v1/chat/completions") {
    // Cut anywhere, also in the middle of a character and of an event.
    std::string text = std::string(kDelta) + R"(data: {"choices":[{"delta":{"content":"하"}}]})";
    const std::size_t middle = text.size() - 6;
    std::vector<std::string> pieces{text.substr(0, 20), text.substr(20, middle - 20),
                                    text.substr(middle) + "\n\n", std::string(kEnd)};
    co_await reply_events(exchange, std::move(pieces), true);
  } else if (path == "/cut/v1/chat/completions") {
    std::vector<std::string> pieces{std::string(kDelta)};
    co_await reply_events(exchange, std::move(pieces), false);
  } else if (path == "/short/v1/chat/completions") {
    std::vector<std::string> pieces{std::string(kDelta)};
    co_await reply_events(exchange, std::move(pieces), true);
  } else if (path == "/broken/v1/chat/completions") {
    std::vector<std::string> pieces{std::string(kDelta),
                                    "data: {\"error\":{\"message\":\"It died.\"}}\n\n"};
    co_await reply_events(exchange, std::move(pieces), true);
  } else if (path == "/silent/v1/chat/completions") {
    std::vector<std::string> pieces{std::string(kDelta)};
    co_await reply_events(exchange, std::move(pieces), false);
    co_await exchange.client_gone();
    shared.left.set_value();
  } else {
    co_await reply_json(exchange, 404,
                        R"({"error":{"message":"No such model.","code":"model_not_found"}})");
  }
}

class ServerClientTest : public testing::Test {
 protected:
  ServerClientTest() {
    auto handler = [this](http::Exchange& exchange) { return handle(exchange, shared_); };
    server_ = http::Server::start(pool_, {}, handler).value();
  }
  ~ServerClientTest() override { server_->stop(0ms); }

  ServerClient client(std::string_view prefix = "", const Interrupts* interrupts = nullptr) {
    const std::string url = "http://127.0.0.1:" + std::to_string(server_->port());
    return ServerClient(parse_server_url(url + std::string(prefix)).value(), "key", interrupts);
  }
  // What an answer is that the server gives under `prefix`.
  Answer ask_at(std::string_view prefix, const Interrupts* interrupts = nullptr) {
    ChatSession session("smollm2", "", {});
    session.ask("Hello");
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> nowhere(std::fopen("/dev/null", "w"),
                                                                  &std::fclose);
    AnswerView view(nowhere.get(), {});
    return ask(client(prefix, interrupts), session, view);
  }

  Shared shared_;
  io::ContextPool pool_{1};
  std::unique_ptr<http::Server> server_;
};

TEST_F(ServerClientTest, FetchesWithTheKey) {
  const auto models = known_models(client());
  ASSERT_TRUE(models) << models.error().text();
  EXPECT_EQ(*models, (std::vector<std::string>{"smollm2", "other"}));
  EXPECT_EQ(shared_.requests, std::vector<std::string>{"GET /v1/models Bearer key "});
}

TEST_F(ServerClientTest, StreamsAnAnswer) {
  const Answer answer = ask_at("/whole");
  EXPECT_FALSE(answer.error) << answer.error->text();
  EXPECT_EQ(answer.text, "Hi하");
  ASSERT_EQ(shared_.requests.size(), 1u);
  EXPECT_TRUE(shared_.requests[0].starts_with("POST /whole/v1/chat/completions Bearer key {"));
}

TEST_F(ServerClientTest, AnAnswerThatIsCutIsAnError) {
  for (const char* prefix : {"/cut", "/short", "/broken"}) {
    const Answer answer = ask_at(prefix);
    ASSERT_TRUE(answer.error) << prefix;
    EXPECT_NE(answer.error->code, kCancelled);
    EXPECT_EQ(answer.text, "Hi") << prefix;
  }
  EXPECT_EQ(ask_at("/broken").error->message, "It died.");
}

TEST_F(ServerClientTest, NamesTheModelsThatThereAre) {
  ChatSession session("smolm2", "", {});
  const Error error = with_known_models(client(), "smolm2", ask_at("/elsewhere").error.value());
  EXPECT_EQ(error.code, kModelNotFound);
  EXPECT_EQ(error.text(),
            "The server has no model 'smolm2'. Did you mean smollm2? It has: smollm2, other.");
}

TEST_F(ServerClientTest, CtrlCStopsTheServersWork) {
  const Interrupts interrupts;
  int events = 0;
  EventHandlers handlers;
  handlers.on_event = [&](const http::SseEvent&) -> Result<void> {
    ++events;
    std::raise(SIGINT);
    return {};
  };
  Call call{.method = "POST", .target = "/silent/v1/chat/completions", .body = "{}"};
  const auto done = client("", &interrupts).stream(std::move(call), std::move(handlers));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, kCancelled);
  EXPECT_EQ(events, 1);
  EXPECT_EQ(shared_.left.get_future().wait_for(5s), std::future_status::ready);
}

TEST_F(ServerClientTest, ACtrlCIsHeardOnceAndCanBeForgotten) {
  Interrupts interrupts;
  std::raise(SIGINT);
  EXPECT_EQ(ask_at("/whole", &interrupts).error->code, kCancelled);
  interrupts.forget();
  EXPECT_FALSE(ask_at("/whole", &interrupts).error);
}

TEST(ServerClient, SaysThatNoServerIsThere) {
  const auto client = ServerClient::create({.url = "http://127.0.0.1:1"}, nullptr);
  const auto reply = client->fetch({.target = "/"});
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().text(),
            "No Yoke server answers at http://127.0.0.1:1. Start one with `yoke serve`, or name it "
            "with --url.");
}

TEST(ServerClient, RefusesAKeyThatIsNone) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("yoke-key-" + std::to_string(::getpid()));
  std::ofstream(file) << "one\r\nX-Evil: two\n";
  EXPECT_FALSE(ServerClient::create({.api_key_file = file}, nullptr));
  std::ofstream(file) << "one\n";
  EXPECT_TRUE(ServerClient::create({.api_key_file = file}, nullptr));
  std::filesystem::remove(file);
  EXPECT_FALSE(ServerClient::create({.api_key_file = file}, nullptr));
}

TEST(EncodeQuery, KeepsAValueInOnePiece) {
  EXPECT_EQ(encode_query("a/b c&d=é"), "a%2Fb%20c%26d%3D%C3%A9");
}

}  // namespace
}  // namespace yoke::cli
