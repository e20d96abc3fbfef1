#include "supervisor/answer_probe.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "engines/capabilities.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"

namespace yoke::supervisor {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxReply = 4u << 20;
constexpr int kAnswerTokens = 6;
constexpr int kLikeliest = 20;

struct Asked {
  http::Endpoint engine;
  std::string key;
  std::chrono::milliseconds limit;
};

// A POST of JSON text; the body of the answer.
io::Task<Result<std::string>> ask(Asked whom, std::string path, std::string body) {
  http::ClientRequest request;
  request.to = whom.engine;
  request.head.method = "POST";
  request.head.target = path;
  request.head.headers.set("Content-Type", "application/json");
  if (!whom.key.empty()) request.head.headers.set("Authorization", "Bearer " + whom.key);
  request.body = std::move(body);
  http::ClientTimeouts timeouts;
  timeouts.head = whom.limit;
  timeouts.idle = whom.limit;
  auto sending = http::send(std::move(request), timeouts);
  YOKE_CO_TRY(const auto response, co_await std::move(sending));
  auto reading = response->read_all(kMaxReply);
  YOKE_CO_TRY(std::string reply, co_await std::move(reading));
  if (const int status = response->head().status; status != 200) {
    co_return fail(engines::kEngineUnusable,
                   fmt::format("The engine answered {} with status {}: {}", path, status,
                               reply.substr(0, 300)));
  }
  co_return reply;
}

std::string tokenize_body(int prompt_tokens) {
  return json_text({{"content", engines::check_text(prompt_tokens)}, {"add_special", true}});
}

// What /tokenize answered.
Result<std::vector<std::int64_t>> parse_tokens(std::string_view reply) {
  YOKE_TRY(const json::value document, parse_json(reply));
  const json::object* fields = document.if_object();
  const json::value* list = fields == nullptr ? nullptr : fields->if_contains("tokens");
  const json::array* array = list == nullptr ? nullptr : list->if_array();
  std::vector<std::int64_t> tokens;
  if (array == nullptr) return tokens;
  for (const json::value& token : *array) {
    boost::system::error_code error;
    tokens.push_back(token.to_number<std::int64_t>(error));
    if (error) return fail(kInvalidJson, "Its tokens are no numbers.");
  }
  return tokens;
}

Result<std::vector<std::int64_t>> prompt_of(std::string_view reply, int prompt_tokens) {
  const auto text = parse_tokens(reply);
  if (!text) {
    return fail(engines::kEngineUnusable,
                "The engine's answer to /tokenize is of no use. " + text.error().message);
  }
  if (text->size() < static_cast<std::size_t>(prompt_tokens)) {
    return fail(engines::kEngineUnusable,
                fmt::format("The engine made {} tokens of the check's text, and {} are needed.",
                            text->size(), prompt_tokens));
  }
  return engines::check_prompt(*text, prompt_tokens);
}

// Greedy, with nothing between the model and its probabilities, whatever its flags say.
std::string completion_body(const std::vector<std::int64_t>& prompt) {
  return json_text({{"prompt", json::array(prompt.begin(), prompt.end())},
                    {"n_predict", kAnswerTokens},
                    {"temperature", 0},
                    {"samplers", json::array{"temperature"}},
                    {"n_probs", kLikeliest},
                    {"post_sampling_probs", false},
                    {"ignore_eos", true},
                    {"cache_prompt", false},
                    {"stream", false}});
}

io::Task<Result<engines::FirstTokens>> first_tokens(Asked whom, int prompt_tokens) {
  auto tokenizing = ask(whom, "/tokenize", tokenize_body(prompt_tokens));
  YOKE_CO_TRY(const std::string tokenized, co_await std::move(tokenizing));
  YOKE_CO_TRY(const auto prompt, prompt_of(tokenized, prompt_tokens));
  auto completing = ask(whom, "/completion", completion_body(prompt));
  YOKE_CO_TRY(const std::string reply, co_await std::move(completing));
  co_return engines::parse_first_tokens(reply, prompt_tokens);
}

}  // namespace

io::Task<Result<engines::FirstTokens>> ask_first_tokens(http::Endpoint engine, std::string key,
                                                        int prompt_tokens,
                                                        std::chrono::milliseconds limit) {
  Asked whom{std::move(engine), std::move(key), limit};
  auto asking = first_tokens(std::move(whom), prompt_tokens);
  auto clock = io::sleep_for(limit);
  auto outcome = co_await io::wait_for_one(std::move(asking), std::move(clock));
  if (outcome.index() == 1) {
    co_return fail(kTimeout, fmt::format("The engine did not answer the check within {} s.",
                                         std::chrono::ceil<std::chrono::seconds>(limit).count()));
  }
  co_return std::get<0>(std::move(outcome));
}

}  // namespace yoke::supervisor
