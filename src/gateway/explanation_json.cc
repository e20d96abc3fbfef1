#include "gateway/explanation_json.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string_view>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/json_text.h"

namespace yoke::gateway {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;
using supervisor::Explanation;

json::string text(std::string_view value) { return json::string(value.data(), value.size()); }

std::int64_t ms(store::Time time) {
  return std::chrono::floor<milliseconds>(time.time_since_epoch()).count();
}

// Seconds, to the millisecond.
double seconds_until(store::Time time, store::Time now) {
  const auto left = std::chrono::ceil<milliseconds>(time - now).count();
  return static_cast<double>(std::max<std::int64_t>(left, 0)) / 1000;
}

template <class Items, class ToJson>
json::array array_of(const Items& items, const ToJson& to_json) {
  json::array array;
  for (const auto& item : items) array.push_back(to_json(item));
  return array;
}

json::object case_json(const store::Case& of) {
  return {
      {"model", of.model}, {"backend", of.backend}, {"engine", of.engine}, {"driver", of.driver}};
}

json::object quarantine_json(const store::Quarantine& quarantine, store::Time now) {
  json::object fields = case_json(quarantine.of);
  fields["failure"] = quarantine.failure;
  fields["message"] = quarantine.message;
  fields["since_ms"] = ms(quarantine.since);
  fields["until_ms"] = ms(quarantine.until);
  fields["remaining_s"] = seconds_until(quarantine.until, now);
  fields["count"] = quarantine.count;
  return fields;
}

json::object failure_json(const store::FailureRecord& failure) {
  json::object fields = case_json(failure.of);
  fields["failure"] = failure.failure;
  fields["message"] = failure.message;
  fields["evidence"] = failure.evidence;
  fields["time_ms"] = ms(failure.time);
  return fields;
}

json::object decision_json(const engines::Decision& decision) {
  return {{"setting", decision.setting},
          {"value", decision.value},
          {"by", text(engines::name_of(decision.by))},
          {"why", decision.why},
          {"source", decision.source}};
}

json::object candidate_json(const Explanation::Candidate& candidate, store::Time now) {
  json::object fields{{"backend", candidate.backend}, {"engine", candidate.engine},
                      {"driver", candidate.driver},   {"current", candidate.current},
                      {"quarantine", nullptr},        {"check", nullptr}};
  if (candidate.quarantine) fields["quarantine"] = quarantine_json(*candidate.quarantine, now);
  if (candidate.check) {
    fields["check"] = json::object{{"agreed", candidate.check->agreed},
                                   {"distance", candidate.check->distance},
                                   {"time_ms", ms(candidate.check->time)}};
  }
  return fields;
}

}  // namespace

std::string explanation_json(const Explanation& explanation, store::Time now) {
  const auto as_it_is = [](const std::string& line) { return json::value(line); };
  json::object body;
  body["model"] = explanation.model;
  body["file"] = explanation.file;
  body["state"] = explanation.state;
  body["order"] = explanation.order;
  body["candidates"] = array_of(explanation.candidates, [now](const Explanation::Candidate& one) {
    return candidate_json(one, now);
  });
  body["ruled_out"] = array_of(explanation.ruled_out, [](const engines::RuledOut& one) {
    return json::object{{"backend", one.backend}, {"why", one.why}};
  });
  body["decisions"] = array_of(explanation.decisions, decision_json);
  body["notes"] = array_of(explanation.notes, as_it_is);
  body["command"] = array_of(explanation.command, as_it_is);
  body["failures"] = array_of(explanation.failures, failure_json);
  body["multi_node"] = array_of(explanation.multi_node, as_it_is);
  return json_text(body);
}

std::string quarantines_json(const std::vector<store::Quarantine>& quarantines, store::Time now) {
  json::object body;
  body["quarantines"] = array_of(
      quarantines, [now](const store::Quarantine& one) { return quarantine_json(one, now); });
  return json_text(body);
}

}  // namespace yoke::gateway
