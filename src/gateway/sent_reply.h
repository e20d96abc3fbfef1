// SentReply: what a client has been sent of a stream, so that another engine can go on with it.
// Pure; one thread at a time. It is fed with every event, so it looks for a few marks and parses
// nothing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace yoke::gateway {

class SentReply {
 public:
  // Bytes of text that are kept at most; a quarter of a million tokens has about as many.
  static constexpr std::size_t kMaxText = 1u << 20;

  // Whole events in the form of llama-server and vLLM (compact JSON, one "data: " line each).
  void record(std::string_view events);

  // Something of the answer itself was sent, and not only comments.
  bool begun() const { return begun_; }
  // Longer than kMaxText: the texts are not kept any more.
  bool too_long() const { return too_long_; }
  // The texts as the inside of a JSON string, escapes and all.
  const std::string& text() const { return text_; }            // Of a chat or a plain completion.
  const std::string& reasoning() const { return reasoning_; }  // reasoning_content, reasoning
  // Events that carried text: as many tokens at least.
  std::size_t text_events() const { return text_events_; }

  bool has_tool_call() const { return tool_call_; }
  bool finished() const { return finished_; }  // A finish_reason was sent.
  bool has_usage() const { return usage_; }
  bool complete() const { return complete_; }  // "[DONE]" was sent.

  // Of the first event, as JSON: the answer keeps them to its end. Empty if there was none.
  const std::string& id() const { return id_; }
  const std::string& created() const { return created_; }

 private:
  void record_event(std::string_view data);

  std::string text_;
  std::string reasoning_;
  std::string id_;
  std::string created_;
  std::size_t text_events_ = 0;
  bool begun_ = false;
  bool too_long_ = false;
  bool tool_call_ = false;
  bool finished_ = false;
  bool usage_ = false;
  bool complete_ = false;
};

}  // namespace yoke::gateway
