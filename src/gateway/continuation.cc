#include "gateway/continuation.h"

#include <algorithm>
#include <array>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "gateway/api_error.h"

namespace yoke::gateway {
namespace {

namespace json = boost::json;

constexpr std::string_view kEventEnd = "\n\n";
constexpr std::string_view kData = "data: ";
// Each of them limits the answer, in OpenAI's or llama.cpp's words.
constexpr std::array kTokenLimits{"max_tokens", "max_completion_tokens", "n_predict"};
constexpr std::array kConstraints{"grammar", "json_schema", "response_format"};
constexpr std::array kVllmConstraints{"response_format", "structured_outputs", "guided_json",
                                      "guided_regex",    "guided_choice",      "guided_grammar"};

constexpr std::string_view kNoGrammarInTheMiddle = "a grammar can't be taken up in the middle";

tl::unexpected<Error> cannot(std::string_view why) {
  return fail(kCannotContinue, std::string(why));
}

std::string unescaped(const std::string& inside) {
  const auto value = parse_json("\"" + inside + "\"");
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

json::object* last_assistant(json::array& messages) {
  auto* message = messages.empty() ? nullptr : messages.back().if_object();
  const auto* role = message != nullptr ? message->if_contains("role") : nullptr;
  return role != nullptr && *role == json::value("assistant") ? message : nullptr;
}

std::string string_in(const json::object& object, json::string_view name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

// Whether the engine takes the conversation's last message as the beginning of its answer.
bool goes_on_from_last(const json::object& body, engines::EngineKind engine) {
  const auto* asked = body.if_contains("continue_final_message");
  return engine == engines::EngineKind::kLlamaCpp || (asked != nullptr && *asked == true);
}

// The conversation with what was sent as the beginning of its last message.
Result<void> add_to_messages(json::object& body, engines::EngineKind engine, std::string text,
                             const std::string& reasoning) {
  auto* messages = body["messages"].if_array();
  if (messages == nullptr) return cannot("the request has no messages");
  json::object* last = goes_on_from_last(body, engine) ? last_assistant(*messages) : nullptr;
  if (last == nullptr) {
    messages->push_back(json::object{{"role", "assistant"}});
    last = messages->back().if_object();
  } else if (const auto* content = last->if_contains("content");
             content != nullptr && !content->is_string() && !content->is_null()) {
    return cannot("the client began the answer with something else than text");
  } else if (const std::string begun = string_in(*last, "content"); !text.starts_with(begun)) {
    // The client began the answer itself; engines repeat that unless they are told not to.
    text = begun + text;
  }
  (*last)["content"] = text;
  if (!reasoning.empty()) (*last)["reasoning_content"] = reasoning;
  body["continue_final_message"] = true;
  body["add_generation_prompt"] = false;
  if (body.contains("echo")) body["echo"] = false;
  return {};
}

Result<void> add_to_prompt(json::object& body, const std::string& text) {
  for (const char* constraint : kConstraints) {
    if (body.contains(constraint)) return cannot(kNoGrammarInTheMiddle);
  }
  if (const auto* echo = body.if_contains("echo"); echo != nullptr && *echo == true) {
    return cannot("the prompt is repeated in it");
  }
  auto* prompt = body["prompt"].if_string();
  if (prompt == nullptr) return cannot("the prompt is no text");
  prompt->append(text);
  return {};
}

// vLLM begins a grammar anew with every request, and looks for thoughts in what it says itself.
Result<void> check_for_vllm(const json::object& body, const SentReply& sent) {
  if (!sent.reasoning().empty()) return cannot("this engine can't take up a thought");
  const auto free = [&body](json::string_view name) {
    const auto* value = body.if_contains(name);
    if (value == nullptr || value->is_null()) return true;
    return value->is_object() && string_in(value->get_object(), "type") == "text";
  };
  const auto* choice = body.if_contains("tool_choice");
  const bool must_call = choice != nullptr && (choice->is_object() || *choice == "required");
  if (must_call || !std::ranges::all_of(kVllmConstraints, free)) {
    return cannot(kNoGrammarInTheMiddle);
  }
  return {};
}

void add_tokens(json::object& counts, json::string_view name, std::int64_t tokens) {
  auto* count = counts.if_contains(name);
  if (count == nullptr || !count->is_int64()) return;
  *count = std::max<std::int64_t>(count->get_int64() + tokens, 0);
}

// Of what the client allowed, what is left.
void reduce_limits(json::object& body, std::int64_t sent_tokens) {
  for (const char* name : kTokenLimits) {
    auto* limit = body.if_contains(name);
    if (limit == nullptr || !limit->is_int64() || limit->get_int64() < 0) continue;
    *limit = std::max<std::int64_t>(limit->get_int64() - sent_tokens, 1);
  }
  add_tokens(body, "min_tokens", -sent_tokens);
}

bool wants_usage(const EngineRequest& request) {
  const auto body = parse_json(request.body);
  const auto fields = body ? JsonFields::of(*body) : fail(body.error());
  const auto options = fields ? fields->object("stream_options") : fail(fields.error());
  return options && options->boolean("include_usage").value_or(false);
}

// A chat's first event says nothing but the role.
bool says_only_the_role(const json::object& event) {
  const auto* choices = event.if_contains("choices");
  if (choices == nullptr || !choices->is_array() || choices->get_array().size() != 1) return false;
  const auto* choice = choices->get_array()[0].if_object();
  const auto* delta = choice != nullptr ? choice->if_contains("delta") : nullptr;
  if (delta == nullptr || !delta->is_object() || !delta->get_object().contains("role"))
    return false;
  return std::ranges::all_of(delta->get_object(), [](const auto& member) {
    return member.key() == "role" || member.value().is_null() || member.value() == "";
  });
}

}  // namespace

bool lacks_only_its_end(const EngineRequest& request, const SentReply& sent) {
  return sent.finished() && !sent.complete() && (sent.has_usage() || !wants_usage(request));
}

std::string sent_text(const SentReply& sent) {
  return unescaped(sent.reasoning()) + unescaped(sent.text());
}

Result<EngineRequest> continue_request(const EngineRequest& request, const SentReply& sent,
                                       std::int64_t sent_tokens) {
  if (request.form != ReplyForm::kStream) {
    return cannot("several answers, or the prompt's progress, are in one stream");
  }
  if (sent.too_long()) return cannot("it is too long to be taken up again");
  if (sent.has_tool_call()) return cannot("it had begun to call a tool");
  if (sent.finished()) return cannot("only its usage was missing");
  YOKE_TRY(json::value document, parse_json(request.body));
  auto* body = document.if_object();
  if (body == nullptr) return cannot("the request is no JSON object");
  const std::string text = unescaped(sent.text());
  const std::string reasoning = unescaped(sent.reasoning());
  if (text.empty() && reasoning.empty()) return request;
  if (request.engine == engines::EngineKind::kVllm) YOKE_CHECK(check_for_vllm(*body, sent));
  YOKE_CHECK(request.kind == RouteKind::kChat
                 ? add_to_messages(*body, request.engine, text, reasoning)
                 : add_to_prompt(*body, text));
  reduce_limits(*body, sent_tokens);
  return EngineRequest{json_text(document), request.form, request.kind, request.engine};
}

Seam::Seam(const SentReply& sent, std::int64_t sent_tokens)
    : id_(sent.id()), created_(sent.created()), sent_tokens_(sent_tokens) {}

std::string Seam::join_event(std::string_view data) const {
  std::string as_it_is = std::string(kData).append(data).append(kEventEnd);
  auto document = parse_json(data);
  auto* event = document ? document->if_object() : nullptr;
  if (event == nullptr) return as_it_is;  // "[DONE]"
  if (!id_.empty() && says_only_the_role(*event)) return {};
  for (const auto& [name, value] : {std::pair("id", &id_), std::pair("created", &created_)}) {
    const auto first = value->empty() ? fail(kInvalidJson, "") : parse_json(*value);
    if (first) (*event)[name] = *first;
  }
  if (auto* usage = event->if_contains("usage"); usage != nullptr && usage->is_object()) {
    add_tokens(usage->get_object(), "prompt_tokens", -sent_tokens_);
    add_tokens(usage->get_object(), "completion_tokens", sent_tokens_);
  }
  return std::string(kData).append(json_text(*document)).append(kEventEnd);
}

std::string Seam::join(std::string_view events) const {
  std::string out;
  while (!events.empty()) {
    const std::size_t end = std::min(events.find(kEventEnd), events.size());
    const std::string_view event = events.substr(0, end);
    events.remove_prefix(std::min(end + kEventEnd.size(), events.size()));
    if (event.starts_with(kData)) {
      out += join_event(event.substr(kData.size()));
    } else {
      out.append(event).append(kEventEnd);
    }
  }
  return out;
}

}  // namespace yoke::gateway
