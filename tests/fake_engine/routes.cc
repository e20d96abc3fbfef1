#include "fake_engine/routes.h"

#include <algorithm>
#include <optional>
#include <string>

#include "fake_engine/completion.h"
#include "fake_engine/completion_request.h"
#include "fake_engine/json_text.h"
#include "fake_engine/log.h"
#include "fake_engine/replies.h"
#include "fake_engine/slot_routes.h"
#include "fake_engine/token_text.h"

namespace fake_engine {
namespace {

bool is_health(const HttpRequest& request) {
  return request.path == "/health" || request.path == "/v1/health";
}

std::string header(const HttpRequest& request, const std::string& name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? "" : found->second;
}

bool has_valid_key(const Engine& engine, const HttpRequest& request) {
  const auto& keys = engine.options().api_keys;
  if (keys.empty() || is_health(request)) return true;
  std::string key = header(request, "authorization");
  if (key.empty()) key = header(request, "x-api-key");
  if (key.starts_with("Bearer ")) key.erase(0, 7);
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

void answer_slots(Engine& engine, const HttpRequest& request, ReplyWriter& writer) {
  if (!engine.options().slots_endpoint) {
    writer.send_error(501, "not_supported_error",
                      "This server does not support slots endpoint. Start it with `--slots`");
    return;
  }
  const auto slots = engine.slots();
  const bool all_busy = std::all_of(slots.begin(), slots.end(),
                                    [](const SlotState& slot) { return slot.is_processing; });
  if (all_busy && request.query.find("fail_on_no_slot=") != std::string::npos) {
    writer.send_error(503, "unavailable_error", "no slot available");
  } else {
    writer.send_json(200, slots_body(engine));
  }
}

void answer_get(Engine& engine, const HttpRequest& request, ReplyWriter& writer) {
  const std::string& path = request.path;
  if (is_health(request)) {
    writer.send_json(200, R"({"status":"ok"})");
  } else if (path == "/v1/models" || path == "/models") {
    writer.send_json(200, models_body(engine));
  } else if (path == "/props") {
    writer.send_json(200, props_body(engine));
  } else if (path == "/slots") {
    answer_slots(engine, request, writer);
  } else if (path == "/metrics" && engine.options().metrics) {
    writer.send(200, "text/plain; version=0.0.4", metrics_body(engine));
  } else if (path == "/metrics") {
    writer.send_error(501, "not_supported_error",
                      "This server does not support metrics endpoint. Start it with `--metrics`");
  } else {
    writer.send_error(404, "not_found_error", "File Not Found");
  }
}

void answer_completion(Engine& engine, const HttpRequest& request, ReplyWriter& writer,
                       CompletionKind kind) {
  note_in_journal(engine.behaviour(), request.path);
  engine.counters().last_body_bytes = request.body.size();
  engine.counters().last_body_fnv = fnv1a64(request.body);
  if (kind == CompletionKind::kEmbedding && !engine.options().embeddings) {
    writer.send_error(501, "not_supported_error",
                      "This server does not support embeddings. Start it with `--embeddings`");
    return;
  }
  ParsedCompletion parsed = parse_completion(engine, request, kind);
  if (parsed.error_status != 200) {
    writer.send_error(parsed.error_status,
                      parsed.error_status == 500 ? "server_error" : "invalid_request_error",
                      parsed.error);
    return;
  }
  Completion(engine, writer, std::move(parsed.request)).run();
}

void answer_tokenize(const HttpRequest& request, ReplyWriter& writer, bool is_vllm) {
  const auto body = json::read_object(request.body);
  if (!body) {
    writer.send_error(500, "server_error", "parse error: the request's body is no JSON object");
    return;
  }
  const auto content = body->find(is_vllm ? "prompt" : "content");
  const auto special = body->find("add_special");
  const bool add_special = special != body->end() && json::is_true(special->second);
  const auto text = content == body->end() ? std::nullopt : json::as_string(content->second);
  writer.send_json(200, tokenize_body(text.value_or(""), add_special));
}

void answer_apply_template(const HttpRequest& request, ReplyWriter& writer) {
  const auto body = json::read_object(request.body);
  if (!body || !body->contains("messages")) {
    writer.send_error(400, "invalid_request_error", "'messages' is required");
    return;
  }
  writer.send_json(200, "{\"prompt\":" + json::quote(templated_prompt(*body)) + '}');
}

void answer_post(Engine& engine, const HttpRequest& request, ReplyWriter& writer) {
  const std::string& path = request.path;
  if (path == "/v1/chat/completions" || path == "/chat/completions") {
    answer_completion(engine, request, writer, CompletionKind::kChat);
  } else if (path == "/v1/completions") {
    answer_completion(engine, request, writer, CompletionKind::kText);
  } else if (path == "/completion" || path == "/completions") {
    answer_completion(engine, request, writer, CompletionKind::kNative);
  } else if (path == "/tokenize") {
    answer_tokenize(request, writer, false);
  } else if (path == "/apply-template") {
    answer_apply_template(request, writer);
  } else if (is_slot_action(request)) {
    answer_slot_action(engine, request, writer);
  } else if (path == "/v1/embeddings") {
    answer_completion(engine, request, writer, CompletionKind::kEmbedding);
  } else {
    writer.send_error(404, "not_found_error", "File Not Found");
  }
}

void answer_vllm_get(Engine& engine, const HttpRequest& request, ReplyWriter& writer) {
  if (request.path == "/health") {
    writer.send(engine.breakdown() ? 503 : 200, "text/plain", "");
  } else if (request.path == "/v1/models") {
    writer.send_json(200, models_body(engine));
  } else if (request.path == "/version") {
    writer.send_json(200, "{\"version\":" + json::quote(engine.behaviour().version) + '}');
  } else if (request.path == "/metrics") {
    writer.send(200, "text/plain; version=0.0.4", vllm_metrics_body(engine));
  } else {
    writer.send_json(404, R"({"detail":"Not Found"})");
  }
}

// vLLM knows nothing of /slots, /props and return_progress, and asks for its key below /v1 only.
void answer_as_vllm(Engine& engine, const HttpRequest& request, ReplyWriter& writer) {
  const std::string& path = request.path;
  if (path.starts_with("/v1/") && !has_valid_key(engine, request)) {
    writer.send_json(401, R"({"error":"Unauthorized"})");
  } else if (request.method == "GET") {
    answer_vllm_get(engine, request, writer);
  } else if (path == "/v1/chat/completions" && !engine.options().embeddings) {
    answer_completion(engine, request, writer, CompletionKind::kChat);
  } else if (path == "/v1/completions" && !engine.options().embeddings) {
    answer_completion(engine, request, writer, CompletionKind::kText);
  } else if (path == "/tokenize") {
    answer_tokenize(request, writer, true);
  } else if (path == "/v1/embeddings" && engine.options().embeddings) {
    answer_completion(engine, request, writer, CompletionKind::kEmbedding);
  } else {
    writer.send_json(404, R"({"detail":"Not Found"})");
  }
}

}  // namespace

void answer(Engine& engine, const HttpRequest& request, ReplyWriter& writer) {
  if (request.method == "GET" && request.path == "/fake/stats") {
    writer.send_json(200, stats_body(engine));
  } else if (engine.options().vllm) {
    answer_as_vllm(engine, request, writer);
  } else if (!engine.loaded()) {
    writer.send_error(503, "unavailable_error", "Loading model");
  } else if (!has_valid_key(engine, request)) {
    log_line('W', "srv    operator(): unauthorized: Invalid API Key");
    writer.send_error(401, "authentication_error", "Invalid API Key");
  } else if (request.method == "GET") {
    answer_get(engine, request, writer);
  } else if (request.method == "POST") {
    answer_post(engine, request, writer);
  } else {
    writer.send_error(404, "not_found_error", "File Not Found");
  }
}

}  // namespace fake_engine
