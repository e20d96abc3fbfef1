// Reads the body of a request for a completion or an embedding. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "fake_engine/behaviour.h"
#include "fake_engine/http.h"
#include "fake_engine/json_text.h"
#include "fake_engine/kv_cache.h"
#include "fake_engine/top_tokens.h"

namespace fake_engine {

class Engine;

// kNative: llama-server's own /completion, which does not stream here.
enum class CompletionKind { kChat, kText, kEmbedding, kNative };

struct CompletionRequest {
  CompletionKind kind = CompletionKind::kChat;
  std::string model;
  bool stream = false;
  bool include_usage = false;
  bool return_progress = false;
  int64_t prompt_tokens = 0;
  Tokens prompt;  // Empty for embeddings and vLLM.
  bool cache_prompt = true;
  int64_t inputs = 1;    // For embeddings.
  TopTokens top_tokens;  // For kNative.
  Behaviour behaviour;

  // The reply says the tokens [first_token, end_token) of the seed.
  uint64_t seed = 0;
  int64_t first_token = 0;
  int64_t end_token = 0;
  bool cut_by_limit = false;  // max_tokens ends the reply, not the script.

  // When a reply is continued: what a chat repeats first, how much of the first token was said
  // before, and the checksum of all that was said before.
  std::string repeat;
  size_t skip_bytes = 0;
  uint64_t checksum = 0;
};

struct ParsedCompletion {
  CompletionRequest request;
  int error_status = 200;  // 200: the request is good.
  std::string error;
};

// What the chat template makes of a request's messages.
std::string templated_prompt(const json::Members& body);

// Takes the next free seed from `engine` if the request names none.
ParsedCompletion parse_completion(Engine& engine, const HttpRequest& http, CompletionKind kind);

}  // namespace fake_engine
