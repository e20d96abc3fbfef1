#include "gateway/reply_assembly.h"

#include <boost/json/array.hpp>

#include "base/json_fields.h"
#include "base/json_text.h"

namespace yoke::gateway {
namespace {

namespace json = boost::json;

constexpr std::string_view kChatChunk = "chat.completion.chunk";

void replace(json::object& object, json::string_view name, const json::value& value) {
  json::value& field = object[name];
  if (!value.is_null()) field = value;
}

// Pieces of a text are joined; what is no text replaces what was there.
void join(json::object& into, json::string_view name, const json::value& value) {
  json::value& field = into[name];
  if (field.is_string() && value.is_string()) {
    field.get_string().append(value.get_string());
  } else {
    replace(into, name, value);
  }
}

// {"content":[...]}: the elements of each piece in their order.
void join_logprobs(json::object& choice, const json::value& value) {
  json::value& field = choice["logprobs"];
  const auto* more = value.is_object() ? value.get_object().if_contains("content") : nullptr;
  auto* there = field.is_object() ? field.get_object().if_contains("content") : nullptr;
  if (more != nullptr && more->is_array() && there != nullptr && there->is_array()) {
    for (const json::value& element : more->get_array()) there->get_array().push_back(element);
  } else {
    replace(choice, "logprobs", value);
  }
}

std::int64_t index_of(const json::object& part) {
  const auto* index = part.if_contains("index");
  return index != nullptr && index->is_int64() ? index->get_int64() : 0;
}

}  // namespace

void ReplyAssembly::add_tool_call(Choice& choice, const json::object& part) {
  json::object& call = choice.tool_calls[index_of(part)];
  if (!call.contains("type")) call["type"] = "function";
  for (const auto& [name, value] : part) {
    if (name == "index") continue;
    if (name != "function" || !value.is_object()) {
      call[name] = value;
      continue;
    }
    json::value& function = call["function"];
    if (!function.is_object()) function = json::object{{"name", ""}, {"arguments", ""}};
    for (const auto& [field, text] : value.get_object()) join(function.get_object(), field, text);
  }
}

Result<void> ReplyAssembly::add_delta(Choice& choice, const json::object& delta) {
  for (const auto& [name, value] : delta) {
    if (name == "role") {
      choice.message[name] = value;
    } else if (name != "tool_calls") {
      join(choice.message, name, value);
    } else {
      if (!value.is_array()) return fail(kInvalidJson, "tool_calls: expected an array.");
      for (const json::value& call : value.get_array()) {
        if (!call.is_object()) return fail(kInvalidJson, "tool_calls: expected objects.");
        add_tool_call(choice, call.get_object());
      }
    }
  }
  return {};
}

Result<void> ReplyAssembly::add_choice(const json::object& part) {
  last_choice_ = index_of(part);
  Choice& choice = choices_[last_choice_];
  for (const auto& [name, value] : part) {
    if (name == "index") continue;
    if (name == "delta") {
      if (!value.is_object()) return fail(kInvalidJson, "delta: expected an object.");
      YOKE_CHECK(add_delta(choice, value.get_object()));
    } else if (name == "logprobs") {
      join_logprobs(choice.fields, value);
    } else if (name == "text") {
      join(choice.fields, name, value);
    } else {
      replace(choice.fields, name, value);
    }
  }
  return {};
}

Result<void> ReplyAssembly::add(std::string_view data) {
  YOKE_TRY(const json::value document, parse_json(data));
  const auto* event = document.if_object();
  if (event == nullptr) return fail(kInvalidJson, "An event of the stream is no JSON object.");
  if (const auto* choices = event->if_contains("choices"); choices && choices->is_array()) {
    for (const json::value& choice : choices->get_array()) {
      if (!choice.is_object()) return fail(kInvalidJson, "choices: expected objects.");
      YOKE_CHECK(add_choice(choice.get_object()));
    }
  }
  for (const auto& [name, value] : *event) {
    if (name == "choices") continue;
    // Of several answers each has its own; a reply carries those of the first.
    const bool of_one_choice = name == "usage" || name == "timings";
    if (of_one_choice && last_choice_ != 0 && reply_.contains(name)) continue;
    if (name == "object" && value.is_string() && value.get_string() == kChatChunk) {
      chat_ = true;
      reply_[name] = "chat.completion";
    } else {
      reply_[name] = value;
    }
  }
  return {};
}

json::object ReplyAssembly::finished(std::int64_t index, const Choice& choice) const {
  json::object result = choice.fields;
  result["index"] = index;
  if (!chat_) return result;
  json::object message = choice.message;
  if (!message.contains("role")) message["role"] = "assistant";
  if (json::value& content = message["content"]; content.is_null()) content = "";
  if (!choice.tool_calls.empty()) {
    json::array calls;
    for (const auto& [_, call] : choice.tool_calls) calls.push_back(call);
    message["tool_calls"] = std::move(calls);
  }
  result["message"] = std::move(message);
  return result;
}

std::string ReplyAssembly::text() const {
  json::array choices;
  for (const auto& [index, choice] : choices_) choices.push_back(finished(index, choice));
  json::object reply{{"choices", std::move(choices)}};
  for (const auto& [name, value] : reply_) reply[name] = value;
  return json_text(reply);
}

}  // namespace yoke::gateway
