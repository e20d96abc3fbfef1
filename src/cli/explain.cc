#include "cli/explain.h"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/shell_words.h"
#include "cli/answer_view.h"
#include "cli/local_time.h"
#include "cli/page.h"
#include "cli/print_reply.h"
#include "cli/quarantine.h"

namespace yoke::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kLabelWidth = 16;

std::string text_of(const JsonFields& fields, std::string_view name) {
  return one_line(fields.string_or(name, ""));
}

// The strings of an array; none if it is not there.
std::vector<std::string> strings_of(const json::value& reply, std::string_view name) {
  std::vector<std::string> strings;
  const json::value* const array = reply.as_object().if_contains({name.data(), name.size()});
  if (array == nullptr || !array->is_array()) return strings;
  for (const json::value& item : array->as_array()) {
    if (const json::string* text = item.if_string()) strings.emplace_back(*text);
  }
  return strings;
}

// "llama.cpp 0.5.0, RADV Mesa 25.2.1"
std::string engine_and_driver(const JsonFields& fields) {
  const std::string driver = text_of(fields, "driver");
  return text_of(fields, "engine") + (driver.empty() ? "" : ", " + driver);
}

// What the current candidate does in that state of the model.
std::string_view doing(std::string_view state) {
  if (state == "ready" || state == "draining") return "runs";
  if (state == "starting") return "is starting";
  if (state == "checking") return "is starting: its answers are being checked";
  return "is the next to be started";
}

void add_quarantine(Page& page, const JsonFields& quarantine) {
  const std::int64_t count = quarantine.integer_or("count", 1);
  page.more(fmt::format("Left out because of {}{}: {}", text_of(quarantine, "failure"),
                        count > 1 ? fmt::format(" ({} times by now)", count) : "",
                        text_of(quarantine, "message")));
}

void add_check(Page& page, const JsonFields& check) {
  const double distance = check.number("distance").value_or(0);
  const bool agreed = check.boolean("agreed").value_or(false);
  page.more(fmt::format("Answer check: {} the CPU's (distance {:.3g}, {}).",
                        agreed ? "agrees with" : "differs from", distance,
                        local_time(check.integer_or("time_ms", 0))));
}

void add_candidate(Page& page, const JsonFields& candidate, std::string_view state) {
  const auto quarantine = candidate.object("quarantine");
  const bool current = candidate.boolean("current").value_or(false);
  std::string what = current ? std::string(doing(state)) : "ready to fall back to";
  if (quarantine) {
    const std::string rest =
        fmt::format("in quarantine until {} ({} more)",
                    local_time(quarantine->integer_or("until_ms", 0)), remaining_time(*quarantine));
    what = current ? what + ", though " + rest : rest;
  }
  // Of a llama-server that the user brought, nobody knows the backend.
  const std::string backend = text_of(candidate, "backend");
  page.add(backend.empty() ? "-" : backend, what);
  page.more(engine_and_driver(candidate));
  if (quarantine) add_quarantine(page, *quarantine);
  if (const auto check = candidate.object("check")) add_check(page, *check);
}

std::string decided_by(const JsonFields& decision) {
  const std::string by = decision.string_or("by", "");
  const std::string source = text_of(decision, "source");
  const std::string who = by == "user"         ? "your configuration"
                          : by == "measured"   ? "measured here"
                          : by == "known_fact" ? "a known fact"
                          : by == "default"    ? "the default"
                                               : one_line(by);
  return source.empty() ? who : fmt::format("{}, {}", who, source);
}

void add_decision(Page& page, const JsonFields& decision) {
  page.add(text_of(decision, "setting"),
           fmt::format("{} ({})", text_of(decision, "value"), decided_by(decision)));
  page.more(text_of(decision, "why"));
}

void add_failure(Page& page, const JsonFields& failure) {
  const std::string backend = text_of(failure, "backend");
  page.line(fmt::format("{}: {}{}", local_time(failure.integer_or("time_ms", 0)),
                        text_of(failure, "failure"), backend.empty() ? "" : " on " + backend));
  page.more(text_of(failure, "message"));
  const std::string evidence = text_of(failure, "evidence");
  if (!evidence.empty()) page.more(fmt::format("Its log: {}", evidence));
  page.more(engine_and_driver(failure));
}

void add_lines(Page& page, std::string_view title, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  page.title(title);
  for (const std::string& line : lines) page.line(line);
}

void add_commands(Page& page, const json::value& reply) {
  const std::vector<std::string> command = strings_of(reply, "command");
  if (!command.empty()) {
    page.title("Command");
    page.verbatim(printable(shell_line(command)));
  }
  const std::vector<std::string> machines = strings_of(reply, "multi_node");
  if (machines.empty()) return;
  page.title("It is too big for this machine; one command for each of several machines");
  for (const std::string& line : machines) page.verbatim(printable(line));
}

}  // namespace

Result<std::string> format_explanation(const json::value& reply, const Terminal& terminal) {
  YOKE_TRY(const JsonFields body, JsonFields::of(reply));
  YOKE_TRY(const std::string state, body.string("state"));
  YOKE_TRY(const std::vector<JsonFields> candidates, body.objects("candidates"));
  YOKE_TRY(const std::vector<JsonFields> ruled_out, body.objects("ruled_out"));
  YOKE_TRY(const std::vector<JsonFields> decisions, body.objects("decisions"));
  YOKE_TRY(const std::vector<JsonFields> failures, body.objects("failures"));

  Page page(terminal, kLabelWidth);
  page.title(text_of(body, "model"));
  page.add("State", state);
  page.add("File", text_of(body, "file"));
  if (candidates.empty()) page.add("Engine", "None that is installed can run it here.");

  if (!candidates.empty() || !ruled_out.empty()) page.title("Backends, in the order of trial");
  const std::string order = text_of(body, "order");
  if (!candidates.empty() && !order.empty()) page.line(order);
  for (const JsonFields& candidate : candidates) add_candidate(page, candidate, state);
  for (const JsonFields& one : ruled_out) {
    page.add(text_of(one, "backend"), "ruled out: " + text_of(one, "why"));
  }
  if (!decisions.empty()) page.title("Settings");
  for (const JsonFields& decision : decisions) add_decision(page, decision);
  add_lines(page, "Notes", strings_of(reply, "notes"));
  if (!failures.empty()) page.title("Failures, the newest first");
  for (const JsonFields& failure : failures) add_failure(page, failure);
  add_commands(page, reply);
  return page.text();
}

Result<void> explain(const ExplainOptions& options) {
  return print_reply(
      options.connect, {.target = "/yoke/v1/explain?model=" + encode_query(options.model)},
      options.json,
      [](const json::value& reply) { return format_explanation(reply, Terminal::of(stdout)); });
}

}  // namespace yoke::cli
