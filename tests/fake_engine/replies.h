// The JSON of llama-server's answers, member for member in its order. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "fake_engine/top_tokens.h"

namespace fake_engine {

class Engine;

// What the answers to one completion have in common.
struct ReplyFacts {
  bool chat = true;     // /v1/chat/completions, not /v1/completions.
  bool native = false;  // /completion.
  int64_t slot = -1;
  std::string id;
  std::string model;
  int64_t created_s = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // Of those, not computed anew.
  int64_t completion_tokens = 0;
  std::string finish_reason = "stop";
  uint64_t checksum = 0;  // FNV-1a 64 of the whole text.
  double prompt_ms = 0;
  double predicted_ms = 0;
};

// Writes the server-sent events of one reply. What stays the same is built once, so that a token
// costs two appends.
class EventWriter {
 public:
  explicit EventWriter(const ReplyFacts& facts);

  // The first event of a chat; empty for plain completions.
  std::string role() const;

  // How much of the prompt is read: nothing yet, or all of it.
  std::string progress(int64_t processed, const ReplyFacts& facts) const;

  // `t_ns`: the time stamp to carry.
  std::string token(std::string_view text, std::optional<int64_t> t_ns) const;

  // The event with the finish reason, and with `include_usage` the one with the usage.
  std::string finish(const ReplyFacts& facts, bool include_usage) const;

 private:
  std::string common_;  // The members behind "choices".
  bool chat_;
  bool native_;
};

inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n";
inline constexpr std::string_view kPingEvent = ":\n\n";

// The answer to a request that did not stream.
std::string full_reply(const ReplyFacts& facts, std::string_view text);

// The answer of /completion.
std::string native_reply(const ReplyFacts& facts, std::string_view text, const TopTokens& tokens);
// The answer of /tokenize: a token for each word.
std::string tokenize_body(std::string_view text, bool add_special);

// `type` and `status` as llama-server pairs them.
std::string error_body(int status, std::string_view type, std::string_view message);
std::string error_event(int status, std::string_view type, std::string_view message);

std::string embeddings_body(std::string_view model, int64_t inputs, uint64_t seed);
std::string models_body(const Engine& engine);
std::string props_body(const Engine& engine);
std::string slots_body(const Engine& engine);
std::string metrics_body(Engine& engine);
std::string vllm_metrics_body(Engine& engine);
std::string stats_body(Engine& engine);

}  // namespace fake_engine
