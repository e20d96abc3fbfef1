// ReplyAssembly: one JSON reply out of the events of a stream, as the engine would have given it
// without streaming. Pure; one thread at a time.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/result.h"

namespace yoke::gateway {

inline constexpr std::string_view kStreamEnd =
    "[DONE]";  // The data of an OpenAI stream's last event.

class ReplyAssembly {
 public:
  // The data of one event, in the form of OpenAI's chat.completion.chunk or text_completion;
  // neither progress nor kStreamEnd. kInvalidJson if it is no such thing.
  Result<void> add(std::string_view data);

  // Everything that was added.
  std::string text() const;

 private:
  struct Choice {
    boost::json::object fields;   // finish_reason, logprobs, text, ...
    boost::json::object message;  // Of a chat.
    std::map<std::int64_t, boost::json::object> tool_calls;
  };
  Result<void> add_choice(const boost::json::object& part);
  static Result<void> add_delta(Choice& choice, const boost::json::object& delta);
  static void add_tool_call(Choice& choice, const boost::json::object& part);
  boost::json::object finished(std::int64_t index, const Choice& choice) const;

  boost::json::object reply_;  // id, created, model, usage, timings, ...
  std::map<std::int64_t, Choice> choices_;
  std::int64_t last_choice_ = 0;
  bool chat_ = false;
};

}  // namespace yoke::gateway
