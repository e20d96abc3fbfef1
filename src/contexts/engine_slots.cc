#include "contexts/engine_slots.h"

#include <memory>
#include <string_view>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "http/sse.h"

namespace yoke::contexts {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr std::size_t kMaxReply = 64u << 20;
constexpr std::chrono::milliseconds kShort = 10s;
// Where less of a prompt is cached, to recall it would cost about as much as to read it.
constexpr std::int64_t kMostlyCached = 9;  // Of ten.

http::ClientRequest request_to(const EngineAddress& engine, std::string method, std::string path) {
  http::ClientRequest request{engine.endpoint, {std::move(method), std::move(path)}, {}};
  if (!engine.key.empty()) request.head.headers.set("Authorization", "Bearer " + engine.key);
  return request;
}

http::ClientTimeouts timeouts_of(std::chrono::milliseconds limit) { return {kShort, limit, limit}; }

http::ClientRequest post_to(const EngineAddress& engine, std::string path, std::string body) {
  auto request = request_to(engine, "POST", std::move(path));
  request.head.headers.set("Content-Type", "application/json");
  request.body = std::move(body);
  return request;
}

tl::unexpected<Error> refused(const std::string& path, std::string_view what) {
  return fail(http::kBadResponse, fmt::format("The engine's answer to {}: {}", path, what));
}

// What an error reply of llama-server says.
std::string message_of(const std::string& reply) {
  const auto document = parse_json(reply);
  const auto fields = document ? JsonFields::of(*document) : fail(document.error());
  const auto error = fields ? fields->object("error") : fail(fields.error());
  return error ? error->string_or("message", reply.substr(0, 300)) : reply.substr(0, 300);
}

io::Task<Result<json::value>> ask(http::ClientRequest request, std::chrono::milliseconds limit) {
  const std::string path = request.head.target;
  auto sending = http::send(std::move(request), timeouts_of(limit));
  YOKE_CO_TRY(const auto response, co_await std::move(sending));
  auto reading = response->read_all(kMaxReply);
  YOKE_CO_TRY(const std::string reply, co_await std::move(reading));
  if (const int status = response->head().status; status != 200) {
    co_return refused(path, fmt::format("status {}, {}", status, message_of(reply)));
  }
  auto document = parse_json(reply);
  if (!document) co_return refused(path, document.error().message);
  co_return *std::move(document);
}

Result<Slot> parse_slot(const json::value& value) {
  YOKE_TRY(const JsonFields fields, JsonFields::of(value));
  Slot slot;
  YOKE_TRY(const std::int64_t id, fields.integer("id"));
  slot.id = static_cast<int>(id);
  YOKE_TRY(slot.busy, fields.boolean("is_processing"));
  slot.n_ctx = fields.integer_or("n_ctx", 0);
  slot.tokens = fields.integer_or("n_prompt_tokens", 0);
  slot.task = fields.integer_or("id_task", -1);
  return slot;
}

Result<Tokens> parse_tokens(const json::value* list) {
  const json::array* array = list == nullptr ? nullptr : list->if_array();
  if (array == nullptr) return fail(kInvalidArgument, "There is no list of tokens.");
  Tokens tokens;
  tokens.reserve(array->size());
  for (const json::value& token : *array) {
    boost::system::error_code error;
    tokens.push_back(token.to_number<std::int32_t>(error));
    if (error) return fail(kInvalidArgument, "The tokens are no numbers.");
  }
  return tokens;
}

std::string slot_path(int slot, std::string_view action) {
  return fmt::format("/slots/{}?action={}", slot, action);
}

std::string file_body(const std::string& file) { return json_text({{"filename", file}}); }

io::Task<Result<Tokens>> tokenize(EngineAddress engine, json::string text) {
  auto request = post_to(
      engine, "/tokenize",
      json_text({{"content", std::move(text)}, {"add_special", true}, {"parse_special", true}}));
  auto asking = ask(std::move(request), kShort);
  YOKE_CO_TRY(const json::value reply, co_await std::move(asking));
  const json::object* fields = reply.if_object();
  co_return parse_tokens(fields == nullptr ? nullptr : fields->if_contains("tokens"));
}

io::Task<Result<Tokens>> chat_tokens(EngineAddress engine, std::string body) {
  auto request = post_to(engine, "/apply-template", std::move(body));
  auto asking = ask(std::move(request), kShort);
  YOKE_CO_TRY(json::value reply, co_await std::move(asking));
  json::object* fields = reply.if_object();
  json::value* prompt = fields == nullptr ? nullptr : fields->if_contains("prompt");
  json::string* text = prompt == nullptr ? nullptr : prompt->if_string();
  if (text == nullptr) co_return refused("/apply-template", "no prompt");
  auto tokenizing = tokenize(std::move(engine), std::move(*text));
  co_return co_await std::move(tokenizing);
}

io::Task<Result<Tokens>> text_tokens(EngineAddress engine, std::string body) {
  YOKE_CO_TRY(json::value document, parse_json(body));
  json::object* fields = document.if_object();
  json::value* prompt = fields == nullptr ? nullptr : fields->if_contains("prompt");
  if (prompt == nullptr) co_return fail(kInvalidArgument, "The request has no prompt.");
  if (prompt->is_array()) co_return parse_tokens(prompt);
  if (!prompt->is_string()) co_return fail(kInvalidArgument, "The prompt is no text.");
  auto tokenizing = tokenize(std::move(engine), std::move(prompt->get_string()));
  co_return co_await std::move(tokenizing);
}

// What one event of a recall tells: the slot at its end, or that it is in vain.
struct RecallStep {
  bool ends = false;
  std::optional<int> slot;
};

RecallStep step_of(std::string_view event) {
  const auto document = parse_json(event);
  const auto fields = document ? JsonFields::of(*document) : fail(document.error());
  if (!fields || fields->has("error")) return {true, {}};
  if (const auto progress = fields->object("prompt_progress")) {
    const std::int64_t total = progress->integer_or("total", 0);
    const std::int64_t cached = progress->integer_or("cache", 0);
    return {cached < total / 10 * kMostlyCached, {}};
  }
  const auto stop = fields->boolean("stop");
  if (!stop || !*stop) return {};
  const std::int64_t slot = fields->integer_or("id_slot", -1);
  return {true, slot < 0 ? std::nullopt : std::optional(static_cast<int>(slot))};
}

std::string recall_body(const Tokens& prompt, bool stream) {
  return json_text({{"prompt", json::array(prompt.begin(), prompt.end())},
                    {"n_predict", 0},
                    {"cache_prompt", true},
                    {"stream", stream},
                    {"return_progress", stream}});
}

}  // namespace

io::Task<Result<std::vector<Slot>>> get_slots(EngineAddress engine) {
  auto asking = ask(request_to(engine, "GET", "/slots"), kShort);
  YOKE_CO_TRY(const json::value reply, co_await std::move(asking));
  const json::array* array = reply.if_array();
  if (array == nullptr) co_return refused("/slots", "no list");
  std::vector<Slot> slots;
  for (const json::value& value : *array) {
    auto slot = parse_slot(value);
    if (!slot) co_return refused("/slots", slot.error().message);
    slots.push_back(*slot);
  }
  co_return slots;
}

io::Task<Result<SlotSaved>> save_slot(EngineAddress engine, int slot, std::string file,
                                      std::chrono::milliseconds limit) {
  auto asking = ask(post_to(engine, slot_path(slot, "save"), file_body(file)), limit);
  YOKE_CO_TRY(const json::value reply, co_await std::move(asking));
  YOKE_CO_TRY(const JsonFields fields, JsonFields::of(reply));
  const std::int64_t bytes = fields.integer_or("n_written", -1);
  if (bytes < 0) co_return refused("/slots", "it does not say how much it wrote");
  co_return SlotSaved{fields.integer_or("n_saved", 0), static_cast<std::uint64_t>(bytes)};
}

io::Task<Result<void>> restore_slot(EngineAddress engine, int slot, std::string file,
                                    std::chrono::milliseconds limit) {
  auto asking = ask(post_to(engine, slot_path(slot, "restore"), file_body(file)), limit);
  YOKE_CO_TRY(const json::value reply, co_await std::move(asking));
  co_return Result<void>{};
}

io::Task<Result<Tokens>> prompt_tokens(EngineAddress engine, std::string target, std::string body) {
  if (target == "/v1/chat/completions") {
    auto asking = chat_tokens(std::move(engine), std::move(body));
    co_return co_await std::move(asking);
  }
  if (target == "/v1/completions") {
    auto asking = text_tokens(std::move(engine), std::move(body));
    co_return co_await std::move(asking);
  }
  co_return fail(kInvalidArgument, "No prompt is read by requests to " + target + ".");
}

io::Task<Result<std::optional<int>>> recall(EngineAddress engine, Tokens prompt) {
  auto request = post_to(engine, "/completion", recall_body(prompt, true));
  auto sending = http::send(std::move(request), timeouts_of(kShort));
  YOKE_CO_TRY(const auto response, co_await std::move(sending));
  std::optional<int> none;
  if (response->head().status != 200) co_return none;
  http::SseParser events;
  for (;;) {
    auto reading = response->read();
    YOKE_CO_TRY(const std::string_view piece, co_await std::move(reading));
    if (piece.empty()) co_return none;
    YOKE_CO_CHECK(events.feed(piece));
    http::SseEvent event;
    while (events.next(event)) {
      const RecallStep step = step_of(event.data);
      if (step.ends) co_return step.slot;
    }
  }
}

io::Task<Result<void>> move_idle_slots(EngineAddress engine) {
  auto asking = ask(post_to(engine, "/completion", recall_body({0}, false)), kShort);
  YOKE_CO_TRY(const json::value reply, co_await std::move(asking));
  co_return Result<void>{};
}

}  // namespace yoke::contexts
