#include "cli/answer_reader.h"

#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/units.h"
#include "cli/api_error.h"
#include "http/message.h"

namespace yoke::cli {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

std::string count_of(std::int64_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

tl::unexpected<Error> bad_event(std::string_view why) {
  return fail(http::kBadResponse,
              fmt::format("The server sent an event that is no part of a chat answer: {}.", why));
}

}  // namespace

std::string AnswerStats::describe() const {
  std::string text = count_of(tokens, "token");
  if (tokens_per_s) text += fmt::format(", {:.1f} tokens/s", *tokens_per_s);
  if (first_token) text += fmt::format(", first token after {}", format_duration(*first_token));
  return text;
}

Result<Delta> AnswerReader::read(std::string_view data, Clock::time_point now) {
  if (data == "[DONE]") return Delta{};
  const auto json = parse_json(data);
  if (!json) return bad_event("it is no JSON");
  if (auto error = read_api_error(*json)) return fail(std::move(*error));
  const auto event = JsonFields::of(*json);
  if (!event) return bad_event(event.error().message);

  if (const auto usage = event->object("usage")) {
    prompt_tokens_ = usage->integer_or("prompt_tokens", 0);
    tokens_ = usage->integer_or("completion_tokens", 0);
  }
  if (const auto timings = event->object("timings")) {
    if (const auto rate = timings->number("predicted_per_second")) tokens_per_s_ = *rate;
  }
  Delta delta;
  if (!event->has("choices")) return delta;
  const auto choices = event->objects("choices");
  if (!choices) return bad_event(choices.error().message);
  if (choices->empty()) return delta;
  const JsonFields& choice = choices->front();
  if (choice.has("finish_reason")) finish_reason_ = choice.string_or("finish_reason", "");
  if (const auto fields = choice.object("delta")) {
    delta.text = fields->string_or("content", "");
    // llama.cpp has the longer name, vLLM the shorter one.
    delta.reasoning = fields->string_or("reasoning_content", fields->string_or("reasoning", ""));
  }
  if (!delta.text.empty() || !delta.reasoning.empty()) {
    if (!first_) first_ = now;
    last_ = now;
    ++pieces_;
    text_ += delta.text;
  }
  return delta;
}

AnswerStats AnswerReader::stats() const {
  AnswerStats stats;
  stats.prompt_tokens = prompt_tokens_.value_or(0);
  stats.tokens = tokens_.value_or(pieces_);
  stats.tokens_per_s = tokens_per_s_;
  if (!first_) return stats;
  stats.first_token = duration_cast<milliseconds>(*first_ - asked_);
  const double seconds = std::chrono::duration<double>(last_ - *first_).count();
  if (!stats.tokens_per_s && stats.tokens > 1 && seconds > 0) {
    stats.tokens_per_s = static_cast<double>(stats.tokens - 1) / seconds;
  }
  return stats;
}

void StatsTotal::add(const AnswerStats& stats) {
  ++answers_;
  prompt_tokens_ += stats.prompt_tokens;
  tokens_ += stats.tokens;
  last_ = stats;
}

std::string StatsTotal::describe() const {
  if (answers_ == 0) return "No answer so far.";
  return fmt::format("{}: {} in, {} out.\nThe last one: {}.", count_of(answers_, "answer"),
                     count_of(prompt_tokens_, "token"), count_of(tokens_, "token"),
                     last_.describe());
}

}  // namespace yoke::cli
