#include "contexts/engine_contexts.h"

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "contexts/engine_slots.h"
#include "contexts/slot_file.h"
#include "contexts/test_support.h"
#include "http/server.h"
#include "http/test_support.h"
#include "io/sleep.h"

namespace yoke::contexts {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using http::testing::run_task;
using testing::slot_file_text;

constexpr std::string_view kChat = "/v1/chat/completions";
const ContextKey kKey{"model, build, types"};

struct TestSlot {
  bool busy = false;
  std::int64_t task = -1;
  Tokens tokens;
};

struct Reply {
  int status = 200;
  std::string body;
};

// What llama-server does with slots, as far as it matters here. A character is a token.
class TestEngine {
 public:
  TestEngine(std::filesystem::path directory, std::size_t slots)
      : directory_(std::move(directory)), slots_(slots), pool_(1) {
    server_ = http::Server::start(pool_, {}, [this](http::Exchange& exchange) {
                return serve(exchange, *this);
              }).value();
  }
  ~TestEngine() { server_->stop(0ms); }

  http::Endpoint endpoint() const { return {"127.0.0.1", server_->port()}; }

  // As a request that Yoke passed on would.
  std::size_t compute(const std::string& prompt) {
    const std::lock_guard lock(mutex_);
    return compute_locked(tokens_of(prompt)).second;
  }
  std::vector<TestSlot> slots() {
    const std::lock_guard lock(mutex_);
    return slots_;
  }
  void set_busy(std::size_t slot, bool busy) {
    const std::lock_guard lock(mutex_);
    slots_[slot].busy = busy;
  }
  int count(const std::string& what) {
    const std::lock_guard lock(mutex_);
    return counts_[what];
  }

  // In place of the usual: none for that.
  std::function<std::optional<Reply>(std::string_view action, const std::string& file)> intercept;
  std::atomic<std::chrono::milliseconds> action_delay{0ms};
  std::atomic<bool> moves_idle{true};

 private:
  static Tokens tokens_of(std::string_view text) { return {text.begin(), text.end()}; }

  static io::Task<void> serve(http::Exchange& exchange, TestEngine& engine) {
    const auto body = co_await exchange.read_body();
    if (!body) co_return;
    const std::string target = exchange.request().target;
    if (exchange.request().headers.get("Authorization") != "Bearer secret") {
      co_await exchange.reply({.status = 401}, "{}");
      co_return;
    }
    if (target.starts_with("/slots/") && engine.action_delay.load() > 0ms) {
      auto sleeping = io::sleep_for(engine.action_delay.load());
      co_await std::move(sleeping);
    }
    Reply reply = engine.answer(target, *body);
    if (reply.status == 0) co_return;  // As if it had died.
    http::ResponseHead head{.status = reply.status};
    co_await exchange.reply(std::move(head), std::move(reply.body));
  }

  Reply answer(const std::string& target, const std::string& body) {
    const std::lock_guard lock(mutex_);
    if (target == "/slots") return {200, slots_text()};
    const json::value document = parse_json(body).value_or(json::object{});
    const json::object& fields = document.as_object();
    if (target == "/apply-template") {
      ++counts_["template"];
      return {200, json_text({{"prompt", fields.at("messages")}})};
    }
    if (target == "/tokenize") {
      const Tokens tokens = tokens_of(fields.at("content").as_string());
      return {200, json_text({{"tokens", json::array(tokens.begin(), tokens.end())}})};
    }
    if (target == "/completion") return complete(fields);
    return act(target, std::string(fields.at("filename").as_string()));
  }

  std::string slots_text() const {
    json::array list;
    for (std::size_t id = 0; id < slots_.size(); ++id) {
      const TestSlot& slot = slots_[id];
      json::object fields{{"id", id}, {"n_ctx", 5000}, {"is_processing", slot.busy}};
      if (slot.task >= 0) {
        fields["id_task"] = slot.task;
        fields["n_prompt_tokens"] = slot.tokens.size();
      }
      list.push_back(std::move(fields));
    }
    return json_text(list);
  }

  // The slot, and how many tokens it had already.
  std::pair<std::size_t, std::size_t> compute_locked(const Tokens& prompt) {
    std::size_t best = 0;
    std::size_t most = 0;
    for (std::size_t id = 0; id < slots_.size(); ++id) {
      const std::size_t common = common_beginning(slots_[id].tokens, prompt);
      if (!slots_[id].busy && common > most) best = id, most = common;
    }
    if (moves_idle) {
      for (std::size_t id = 0; id < slots_.size(); ++id) {
        if (id == best && most > 0) continue;
        if (!slots_[id].tokens.empty()) moved_.push_back(std::exchange(slots_[id].tokens, {}));
      }
      for (Tokens& tokens : moved_) {
        const std::size_t common = common_beginning(tokens, prompt);
        if (common > most) most = common, slots_[best].tokens.swap(tokens);
      }
    }
    slots_[best].task = next_task_++;
    slots_[best].tokens = prompt;
    return {best, most};
  }

  Reply complete(const json::object& fields) {
    ++counts_["completion"];
    Tokens prompt;
    for (const json::value& token : fields.at("prompt").as_array()) {
      prompt.push_back(token.to_number<std::int32_t>());
    }
    const auto [slot, cached] = compute_locked(prompt);
    std::string events = fmt::format(
        "data: {}\n\n",
        json_text({{"stop", false},
                   {"id_slot", -1},
                   {"prompt_progress", {{"total", prompt.size()}, {"cache", cached}}}}));
    events += fmt::format("data: {}\n\n", json_text({{"stop", true}, {"id_slot", slot}}));
    return {200, fields.at("stream").as_bool() ? events : "{}"};
  }

  Reply act(const std::string& target, const std::string& file) {
    const std::size_t id = static_cast<std::size_t>(target[7] - '0');
    const std::string action = target.substr(target.find('=') + 1);
    ++counts_[action];
    if (intercept) {
      if (auto reply = intercept(action, file)) return *std::move(reply);
    }
    Tokens& tokens = slots_.at(id).tokens;
    if (action == "save") {
      const std::string text = slot_file_text(tokens, 100 * tokens.size());
      testing::write_file(directory_ / file, text);
      return {200, json_text({{"n_saved", tokens.size()}, {"n_written", text.size()}})};
    }
    const auto found = read_slot_file(directory_ / file);
    if (!found) return {400, R"({"error":{"message":"Unable to restore slot"}})"};
    tokens = found->tokens;
    return {200, json_text({{"n_restored", tokens.size()}})};
  }

  std::filesystem::path directory_;
  std::mutex mutex_;
  std::vector<TestSlot> slots_;
  std::vector<Tokens> moved_;
  std::int64_t next_task_ = 0;
  std::map<std::string, int> counts_;
  io::ContextPool pool_;
  std::unique_ptr<http::Server> server_;
};

std::string body_of(const std::string& text) { return json_text({{"messages", text}}); }

std::string text(char letter, std::size_t size = 1000) { return std::string(size, letter); }

class EngineContextsTest : public ::testing::Test {
 protected:
  EngineContextsTest() { open(); }

  void open(std::uint64_t max_bytes = 1u << 30) {
    saved_.reset();
    saved_ = SavedContexts::open(dir_.path(), max_bytes).value();
  }
  // A new process, with nothing in its slots.
  void start(std::size_t slots = 2) {
    contexts_.reset();
    engine_ = std::make_unique<TestEngine>(dir_.path(), slots);
    contexts_ =
        std::make_unique<EngineContexts>(*saved_, "chat", kKey, engine_->endpoint(), "secret");
  }
  // How many of the prompt's tokens were there already.
  std::size_t ask(const std::string& prompt) {
    run_task(contexts_->restore_for(std::string(kChat), body_of(prompt)));
    return engine_->compute(prompt);
  }
  void save(std::chrono::milliseconds limit = 5s) { run_task(contexts_->save(limit)); }

  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(dir_.path()),
                                                  std::filesystem::directory_iterator()));
  }

  testing::TempDir dir_;
  std::unique_ptr<SavedContexts> saved_;
  std::unique_ptr<TestEngine> engine_;
  std::unique_ptr<EngineContexts> contexts_;
};

TEST_F(EngineContextsTest, OutliveTheEngine) {
  start();
  EXPECT_EQ(ask(text('a')), 0u);
  save();
  start();
  EXPECT_EQ(ask(text('a') + "and more"), 1000u);
  EXPECT_EQ(engine_->count("restore"), 1);
}

TEST_F(EngineContextsTest, AskNothingWhileNothingIsSaved) {
  start();
  ask(text('a'));
  EXPECT_EQ(engine_->count("template"), 0);
}

TEST_F(EngineContextsTest, OfACompletionAreThoseOfItsText) {
  start();
  engine_->compute(text('a'));
  save();
  start();
  run_task(contexts_->restore_for("/v1/completions", json_text({{"prompt", text('a')}})));
  EXPECT_EQ(engine_->count("restore"), 1);
  for (const char* odd : {"{", "[]", "{}", R"({"prompt":5})", R"({"prompt":["a","b"]})"}) {
    run_task(contexts_->restore_for("/v1/completions", odd + text(' ')));
  }
  run_task(contexts_->restore_for("/v1/embeddings", json_text({{"prompt", text('a')}})));
  EXPECT_EQ(engine_->count("restore"), 1);
}

TEST_F(EngineContextsTest, AreSavedOnceAndAgainWhenChanged) {
  start();
  ask(text('a'));
  save();
  save();
  EXPECT_EQ(engine_->count("save"), 1);
  ask(text('a') + text('b'));
  save();
  EXPECT_EQ(engine_->count("save"), 2);
  EXPECT_EQ(saved_->of(kKey).size(), 1u);
}

TEST_F(EngineContextsTest, AreNotSavedIfShortOrInUse) {
  start();
  ask(text('a', 255));
  save();
  EXPECT_EQ(engine_->count("save"), 0);
  ask(text('b'));
  for (std::size_t slot = 0; slot < 2; ++slot) engine_->set_busy(slot, true);
  save();
  EXPECT_EQ(engine_->count("save"), 0);
}

// As when a title is made after each turn of a chat.
TEST_F(EngineContextsTest, AreSavedAlsoWhenMovedOutOfTheSlots) {
  start();
  ask(text('a'));
  ask(text('b'));
  ask("A title, please.");
  save();
  EXPECT_EQ(engine_->count("save"), 2);
  start();
  EXPECT_EQ(ask(text('a') + "!"), 1000u);
  EXPECT_EQ(ask(text('b') + "!"), 1000u);
}

TEST_F(EngineContextsTest, AreNotComputedAnewToBeSaved) {
  start(1);
  engine_->moves_idle = false;
  for (const char letter : {'a', 'b', 'c'}) ask(text(letter));
  ask("short");
  save();
  EXPECT_EQ(engine_->count("save"), 0);
  EXPECT_EQ(engine_->count("completion"), 1);  // One look is enough.
}

TEST_F(EngineContextsTest, DoNotPushOutWhatOthersHave) {
  start(1);
  ask(text('a'));
  save();
  start(1);
  engine_->compute(text('x'));
  EXPECT_EQ(ask(text('a')), 1000u);
  EXPECT_EQ(ask(text('x')), 1000u);
}

TEST_F(EngineContextsTest, AreLeftAloneWhileAllSlotsAreBusy) {
  start(1);
  ask(text('a'));
  save();
  start(1);
  engine_->set_busy(0, true);
  run_task(contexts_->restore_for(std::string(kChat), body_of(text('a'))));
  EXPECT_EQ(engine_->count("restore"), 0);
  EXPECT_EQ(saved_->of(kKey).size(), 1u);
}

TEST_F(EngineContextsTest, AreLeftAloneIfAnotherRequestTakesTheSlot) {
  start(1);
  ask(text('a'));
  save();
  start(1);
  engine_->action_delay = 3s;
  std::thread other([&] {
    std::this_thread::sleep_for(100ms);
    engine_->set_busy(0, true);
  });
  const auto begin = std::chrono::steady_clock::now();
  run_task(contexts_->restore_for(std::string(kChat), body_of(text('a'))));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2500ms);
  other.join();
  EXPECT_EQ(saved_->of(kKey).size(), 1u);
}

TEST_F(EngineContextsTest, ThatDoNotFitStayForAnotherDay) {
  start();
  ask(text('a', 6000));
  save();
  start();
  ask(text('a', 6000));
  EXPECT_EQ(engine_->count("restore"), 0);
  EXPECT_EQ(saved_->of(kKey).size(), 1u);
}

TEST_F(EngineContextsTest, AreRestoredOnceForManyAtOnce) {
  start(8);
  ask(text('a'));
  save();
  start(8);
  engine_->action_delay = 50ms;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back(
        [&] { run_task(contexts_->restore_for(std::string(kChat), body_of(text('a')))); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine_->count("restore"), 1);
}

TEST_F(EngineContextsTest, GoIntoSlotsOfTheirOwn) {
  start(4);
  const std::string letters = "abcd";
  for (const char letter : letters) {
    ask(text(letter));
    save();
  }
  ASSERT_EQ(saved_->of(kKey).size(), 4u);
  start(4);
  engine_->moves_idle = false;
  engine_->action_delay = 50ms;
  std::vector<std::thread> threads;
  for (const char letter : letters) {
    threads.emplace_back([this, letter] {
      run_task(contexts_->restore_for(std::string(kChat), body_of(text(letter))));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const char letter : letters) EXPECT_EQ(engine_->compute(text(letter)), 1000u) << letter;
}

TEST_F(EngineContextsTest, ThatCanNotBeWrittenLeaveNothingBehind) {
  start();
  ask(text('a'));
  const auto cut = [&](std::string_view, const std::string& file) -> std::optional<Reply> {
    const std::string whole = slot_file_text({1, 2, 3}, 1000);
    testing::write_file(dir_.path() / file, whole.substr(0, 600));
    return Reply{200, json_text({{"n_saved", 3}, {"n_written", whole.size()}})};
  };
  engine_->intercept = cut;
  save();
  EXPECT_EQ(engine_->count("save"), 1);
  EXPECT_EQ(files(), 0u);
  engine_->intercept = [&](std::string_view, const std::string& file) -> std::optional<Reply> {
    testing::write_file(dir_.path() / file, "begun");
    return Reply{500, R"({"error":{"message":"Unable to save slot"}})"};
  };
  save();
  EXPECT_EQ(files(), 0u);
  engine_->intercept = [](std::string_view, const std::string&) { return Reply{200, "no json"}; };
  save();
  engine_->intercept = [](std::string_view, const std::string&) { return Reply{200, "{}"}; };
  save();
  engine_->intercept = [](std::string_view, const std::string&) { return Reply{0, ""}; };
  save();
  EXPECT_EQ(engine_->count("save"), 5);
  EXPECT_EQ(files(), 0u);
  EXPECT_TRUE(saved_->of(kKey).empty());
  engine_->intercept = nullptr;
  save();
  EXPECT_EQ(saved_->of(kKey).size(), 1u);
}

TEST_F(EngineContextsTest, AreSavedUntilTheDeadline) {
  start();
  ask(text('a'));
  engine_->action_delay = 1s;
  const auto begin = std::chrono::steady_clock::now();
  save(100ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 900ms);
  EXPECT_TRUE(saved_->of(kKey).empty());
  EXPECT_EQ(files(), 0u);
}

TEST_F(EngineContextsTest, ThatTheEngineRefusesAreRemoved) {
  start();
  ask(text('a'));
  save();
  for (const Reply& reply : {Reply{400, R"({"error":{"message":"no"}})"}, Reply{0, ""}}) {
    start();
    engine_->intercept = [&](std::string_view action, const std::string&) -> std::optional<Reply> {
      return action == "restore" ? std::optional(reply) : std::nullopt;
    };
    EXPECT_EQ(ask(text('a')), 0u);
    EXPECT_TRUE(saved_->of(kKey).empty());
    open();  // What was being written beside it is gone, too.
    EXPECT_EQ(files(), 0u);
    start();
    ask(text('a'));
    save();
    EXPECT_EQ(saved_->of(kKey).size(), 1u);
  }
}

TEST_F(EngineContextsTest, ThatWereCutAreNeverGivenToAnEngine) {
  start();
  ask(text('a'));
  save();
  const std::string file = saved_->of(kKey).front().file;
  std::filesystem::resize_file(dir_.path() / file, 5000);
  start();
  EXPECT_EQ(ask(text('a')), 0u);
  EXPECT_EQ(engine_->count("restore"), 0);
  EXPECT_TRUE(saved_->of(kKey).empty());
}

TEST_F(EngineContextsTest, StayWithinTheLimit) {
  open(150'000);  // One has 104,028 bytes.
  start();
  ask(text('a'));
  save();
  ask(text('b'));
  save();
  ASSERT_EQ(saved_->of(kKey).size(), 1u);
  EXPECT_EQ(saved_->of(kKey).front().tokens->front(), 'b');
  ask(text('c', 4000));
  save();
  EXPECT_EQ(engine_->count("save"), 2);  // It is known beforehand.
  EXPECT_EQ(saved_->of(kKey).size(), 1u);
}

TEST_F(EngineContextsTest, HarmNothingWhenTheEngineIsGone) {
  start();
  ask(text('a'));
  save();
  const http::Endpoint nobody{"127.0.0.1", 1};
  EngineContexts contexts(*saved_, "chat", kKey, nobody, "secret");
  run_task(contexts.restore_for(std::string(kChat), body_of(text('a'))));
  run_task(contexts.save(1s));
  EXPECT_EQ(saved_->of(kKey).size(), 1u);
}

}  // namespace
}  // namespace yoke::contexts
