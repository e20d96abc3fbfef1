// What `yoke plan` found out, for people and for programs. Plain values; pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "cli/terminal.h"
#include "gguf/summary.h"
#include "planner/plan.h"

namespace yoke::cli {

struct PlanReport {
  std::string model;     // As the user named it.
  std::string hardware;  // "this machine", or the file that describes others.
  gguf::Summary summary;
  planner::RunOptions options;
  planner::Inventory inventory;
  planner::Plan plan;
  std::optional<std::uint64_t> longest_context;
  // The same placement with flash attention the other way; none where the engine refuses that,
  // which `other_refused` says.
  std::optional<planner::Plan> other_attention;
  std::string other_refused;
  planner::Remedies remedies;  // If it does not fit.
  // Bytes of the host's memory that the engine fills with earlier prompts as it serves: beside the
  // plan, which is what it takes at its start.
  std::uint64_t cache_ram = 0;
  std::vector<std::string> notes;
};

// On one screen, wrapped at the terminal's width.
std::string format_plan(const PlanReport& report, const Terminal& terminal);

// docs/plan.md describes it.
boost::json::object plan_json(const PlanReport& report);

}  // namespace yoke::cli
