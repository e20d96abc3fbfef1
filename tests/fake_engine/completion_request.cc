#include "fake_engine/completion_request.h"

#include <algorithm>
#include <utility>

#include "fake_engine/engine.h"
#include "fake_engine/json_text.h"
#include "fake_engine/token_text.h"

namespace fake_engine {
namespace {

constexpr size_t kBytesPerPromptToken = 4;

std::string_view find(const json::Members& members, std::string_view name) {
  const auto member = members.find(name);
  return member == members.end() ? std::string_view() : member->second;
}

bool wants_usage(const json::Members& body) {
  const auto options = json::read_object(find(body, "stream_options"));
  return options && json::is_true(find(*options, "include_usage"));
}

std::optional<int64_t> token_limit(const json::Members& body) {
  for (const std::string_view name : {"max_completion_tokens", "max_tokens", "n_predict"}) {
    const auto limit = json::as_integer(find(body, name));
    if (limit && *limit >= 0) return limit;
  }
  return std::nullopt;
}

// The text of a last message that the assistant has begun already.
std::string begun_reply(const json::Members& body) {
  const auto last = json::last_element(find(body, "messages"));
  const auto message = last ? json::read_object(*last) : std::nullopt;
  if (!message || find(*message, "role") != R"("assistant")") return "";
  const std::string text = json::as_string(find(*message, "content")).value_or("");
  // As llama-server does: nothing or one character is no beginning.
  return text.size() > 1 ? text : "";
}

void resume(CompletionRequest& request, const ResumePoint& point) {
  request.seed = point.seed;
  request.first_token = point.next_index;
  request.skip_bytes = point.bytes_of_token;
}

void find_beginning(const json::Members& body, bool is_vllm, CompletionRequest& request) {
  const size_t token_bytes = static_cast<size_t>(request.behaviour.token_bytes);
  request.checksum = kFnvStart;
  if (request.kind == CompletionKind::kChat) {
    const std::string begun = begun_reply(body);
    const bool silent = json::is_true(find(body, "continue_final_message"));
    if (is_vllm && !silent) return;  // For vLLM it is a message like the others.
    if (!silent) request.repeat = begun;
    request.checksum = fnv1a64(begun);
    if (const auto point = find_resume_point(begun, token_bytes)) resume(request, *point);
  } else if (request.kind == CompletionKind::kText) {
    const std::string prompt = json::as_string(find(body, "prompt")).value_or("");
    if (const auto point = find_resume_point_at_end(prompt, token_bytes)) {
      resume(request, *point);
      request.checksum = fnv1a64(point->text);
    }
  }
}

void find_end(const json::Members& body, CompletionRequest& request) {
  request.end_token = std::max(request.behaviour.tokens, request.first_token);
  const auto limit = token_limit(body);
  if (limit && *limit < request.end_token - request.first_token) {
    request.end_token = request.first_token + *limit;
    request.cut_by_limit = true;
  }
}

Tokens prompt_of(const json::Members& body, CompletionKind kind) {
  if (kind == CompletionKind::kChat) return tokens_of(templated_prompt(body), true);
  const std::string_view prompt = find(body, "prompt");
  if (const auto text = json::as_string(prompt)) return tokens_of(*text, true);
  Tokens tokens;
  for (const std::string_view token :
       json::elements(prompt).value_or(std::vector<std::string_view>{})) {
    tokens.push_back(static_cast<int32_t>(json::as_integer(token).value_or(0)));
  }
  return tokens;
}

ParsedCompletion failed(int status, std::string error) { return {{}, status, std::move(error)}; }

}  // namespace

std::string templated_prompt(const json::Members& body) {
  std::string prompt;
  bool begun = false;
  for (const std::string_view element :
       json::elements(find(body, "messages")).value_or(std::vector<std::string_view>{})) {
    const auto message = json::read_object(element);
    if (!message) continue;
    const std::string role = json::as_string(find(*message, "role")).value_or("");
    const std::string_view content = find(*message, "content");
    prompt += "<" + role + "> " + json::as_string(content).value_or(std::string(content)) + "\n";
    begun = role == "assistant";
  }
  return begun ? prompt : prompt + "<assistant> ";
}

ParsedCompletion parse_completion(Engine& engine, const HttpRequest& http, CompletionKind kind) {
  ParsedCompletion parsed;
  CompletionRequest& request = parsed.request;
  request.kind = kind;
  request.behaviour = engine.behaviour();
  const auto body = json::read_object(http.body);
  if (!body) {
    // llama-server takes this for a fault of its own.
    return failed(500, "parse error: the request's body is no JSON object");
  }
  request.behaviour.log_flood_lines = 0;  // The process has had its flood while loading.
  if (const auto script = json::as_string(find(*body, "fake"))) {
    if (const auto wrong = apply_script(*script, request.behaviour)) {
      return failed(400, *wrong);
    }
  }
  request.model = json::as_string(find(*body, "model")).value_or(engine.options().model_name());
  request.prompt_tokens = static_cast<int64_t>(http.body.size() / kBytesPerPromptToken + 1);

  if (kind == CompletionKind::kEmbedding) {
    request.inputs = json::count_elements(find(*body, "input")).value_or(1);
    request.seed = fnv1a64(find(*body, "input"));
    return parsed;
  }
  if (kind == CompletionKind::kChat && !json::count_elements(find(*body, "messages"))) {
    return failed(400, "'messages' is required");
  }
  request.stream = json::is_true(find(*body, "stream"));
  request.include_usage = wants_usage(*body);
  request.return_progress =
      !engine.options().vllm && request.stream && json::is_true(find(*body, "return_progress"));
  if (!engine.options().vllm) {
    request.prompt = prompt_of(*body, kind);
    request.prompt_tokens = static_cast<int64_t>(request.prompt.size());
    request.cache_prompt = find(*body, "cache_prompt") != "false";
  }
  if (kind == CompletionKind::kNative) {
    const std::string_view prompt = find(*body, "prompt");
    const Behaviour& behaviour = request.behaviour;
    const auto model = static_cast<uint64_t>(behaviour.model_seed);
    request.top_tokens.count = json::as_integer(find(*body, "n_probs")).value_or(0);
    request.top_tokens.seed = fnv1a64(prompt, behaviour.wrong_probs ? ~model : model);
  }
  const auto seed = json::as_integer(find(*body, "seed"));
  request.seed = seed && *seed >= 0 ? static_cast<uint64_t>(*seed) : engine.next_seed();
  find_beginning(*body, engine.options().vllm, request);
  find_end(*body, request);
  return parsed;
}

}  // namespace fake_engine
