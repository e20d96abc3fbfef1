#include "cli/chat_session.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace yoke::cli {
namespace {

template <class Messages>
boost::json::array to_json(const Messages& messages) {
  boost::json::array array;
  for (const auto& message : messages) {
    array.push_back(boost::json::object{{"role", message.role}, {"content", message.content}});
  }
  return array;
}

std::string_view heading(std::string_view role) {
  if (role == "system") return "System";
  return role == "user" ? "You" : "Model";
}

}  // namespace

ChatSession::ChatSession(std::string model, std::string system, Sampling sampling)
    : model_(std::move(model)), system_(std::move(system)), sampling_(sampling) {}

void ChatSession::ask(std::string text) { messages_.push_back({"user", std::move(text)}); }

void ChatSession::settle(std::string answer) {
  if (answer.empty()) {
    messages_.pop_back();
  } else {
    messages_.push_back({"assistant", std::move(answer)});
  }
}

std::vector<ChatSession::Message> ChatSession::messages_with_system() const {
  std::vector<Message> all;
  if (!system_.empty()) all.push_back({"system", system_});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return all;
}

std::string ChatSession::request_body() const {
  boost::json::object request;
  request["model"] = model_;
  request["messages"] = to_json(messages_with_system());
  request["stream"] = true;
  request["stream_options"] = boost::json::object{{"include_usage", true}};
  sampling_.add_to(request);
  return boost::json::serialize(request);
}

std::string ChatSession::markdown() const {
  std::string text = fmt::format("# Conversation with {}\n", model_);
  for (const Message& message : messages_with_system()) {
    text += fmt::format("\n## {}\n\n{}\n", heading(message.role), message.content);
  }
  return text;
}

std::string ChatSession::json() const {
  const boost::json::object conversation{{"model", model_},
                                         {"messages", to_json(messages_with_system())}};
  return boost::json::serialize(conversation) + "\n";
}

}  // namespace yoke::cli
