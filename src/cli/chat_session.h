// A conversation with a model: what was said, and the request for the next answer. No I/O; one
// thread at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/sampling.h"

namespace yoke::cli {

class ChatSession {
 public:
  ChatSession(std::string model, std::string system, Sampling sampling);

  const std::string& model() const { return model_; }
  const std::string& system() const { return system_; }
  Sampling& sampling() { return sampling_; }
  const Sampling& sampling() const { return sampling_; }
  bool empty() const { return messages_.empty(); }

  // An empty text means none.
  void set_system(std::string text) { system_ = std::move(text); }
  // Forgets what was said; the system prompt stays.
  void clear() { messages_.clear(); }

  // A question; settle() must follow before the next one.
  void ask(std::string text);
  // The answer to the last question, whole or as far as it came. Without any the question is taken
  // back, because models expect the two sides to take turns.
  void settle(std::string answer);

  // The body for POST /v1/chat/completions, streaming.
  std::string request_body() const;

  // For people to read, and {"model","messages"} for programs.
  std::string markdown() const;
  std::string json() const;

 private:
  struct Message {
    std::string role;
    std::string content;
  };
  std::vector<Message> messages_with_system() const;

  std::string model_;
  std::string system_;
  Sampling sampling_;
  std::vector<Message> messages_;
};

}  // namespace yoke::cli
