#include "cli/plan_view.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <boost/json/array.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "cli/page.h"
#include "cli/show.h"
#include "cli/table.h"
#include "cli/text_wrap.h"

namespace yoke::cli {
namespace {

namespace json = boost::json;
using planner::ComputeDevice;
using planner::DeviceMemory;
using planner::Inventory;
using planner::Plan;
using planner::Pool;
using planner::PoolUse;
using planner::RunOptions;
using planner::Share;

using Bytes = std::uint64_t;

constexpr std::size_t kLabelWidth = 16;

Bytes left_of(const PoolUse& use) {
  return use.usable > use.planned ? use.usable - use.planned : 0;
}

// "1.03 T", "134.5 M"
std::string parameters_text(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000'000) return fmt::format("{:.2f} T", value / 1e12);
  if (count >= 1'000'000'000) return fmt::format("{:.2f} B", value / 1e9);
  return fmt::format("{:.1f} M", value / 1e6);
}

std::string model_line(const PlanReport& report) {
  const gguf::Summary& summary = report.summary;
  std::vector<std::string> parts;
  if (!summary.architecture.empty()) parts.push_back(summary.architecture);
  parts.push_back(parameters_text(summary.parameters) + " parameters");
  const std::string quantization = summary.file_type.value_or(summary.quantization);
  if (!quantization.empty()) parts.push_back(quantization);
  parts.push_back(format_bytes(summary.file_bytes));
  if (summary.parts > 1) parts.back() += fmt::format(" in {} files", summary.parts);
  return one_line(fmt::format("{}: {}", summary.name.empty() ? report.model : summary.name,
                              fmt::join(parts, ", ")));
}

std::string answer_line(const PlanReport& report) {
  if (report.plan.fits) return "It fits. " + report.plan.why;
  return fmt::format("It does not fit: {} are missing. {}", format_memory(report.plan.missing),
                     report.plan.why);
}

std::string requests_text(const RunOptions& options) {
  if (options.sequences == 1) return "one request at a time";
  if (options.unified_cache) return fmt::format("shared by {} requests", options.sequences);
  return fmt::format("{} for each of {} requests", options.n_ctx / options.sequences,
                     options.sequences);
}

std::string options_text(const RunOptions& options) {
  const std::string cache =
      options.cache_type_k == options.cache_type_v
          ? options.cache_type_k
          : fmt::format("{} and {}", options.cache_type_k, options.cache_type_v);
  return fmt::format(
      "context of {} tokens, {}; flash attention {}; keys and values in {}; batches of {}",
      options.n_ctx, requests_text(options), options.flash_attention ? "on" : "off", cache,
      options.n_ubatch);
}

// "0-15", "46-60+out", "output", "-"
std::string layers_text(const Share& share) {
  if (share.layers == 0) return share.output ? "output" : "-";
  const std::uint32_t last = share.first_layer + share.layers - 1;
  std::string text =
      share.layers == 1 ? std::to_string(last) : fmt::format("{}-{}", share.first_layer, last);
  return share.output ? text + "+out" : text;
}

// All sizes of a table in one unit, so that they can be compared at a glance.
struct Unit {
  std::string_view name = "MiB";
  double bytes = 1 << 20;
  int digits = 1;
  std::string text(Bytes value) const {
    return fmt::format("{:.{}f}", static_cast<double>(value) / bytes, digits);
  }
  std::string signed_text(std::int64_t value) const {
    return fmt::format("{:+.{}f}", static_cast<double>(value) / bytes, digits);
  }
};

Unit unit_for(const PlanReport& report) {
  constexpr Bytes kLarge = Bytes{8} << 30;
  const bool large = std::ranges::any_of(report.plan.pools,
                                         [](const PoolUse& use) { return use.planned >= kLarge; });
  return large ? Unit{"GiB", 1 << 30, 2} : Unit{};
}

// What each device would need more (or less) with the other plan.
struct Difference {
  std::uint32_t device = 0;
  Bytes total = 0;
  std::int64_t bytes = 0;
};

std::vector<Difference> differences(const Plan& plan, const Plan& other) {
  std::vector<Difference> found;
  for (const Share& share : other.shares) {
    const auto same = std::ranges::find(plan.shares, share.device, &Share::device);
    const Bytes before = same == plan.shares.end() ? 0 : same->memory.total();
    const Bytes after = share.memory.total();
    found.push_back({share.device, after,
                     static_cast<std::int64_t>(after) - static_cast<std::int64_t>(before)});
  }
  return found;
}

std::string device_table(const PlanReport& report, const Terminal& terminal) {
  using Column = Bytes (*)(const DeviceMemory&);
  struct Part {
    std::string_view title;
    Column value;
  };
  constexpr std::array kParts{Part{"WEIGHTS", [](const DeviceMemory& m) { return m.weights; }},
                              Part{"KV", [](const DeviceMemory& m) { return m.kv; }},
                              Part{"STATE", [](const DeviceMemory& m) { return m.state; }},
                              Part{"COMPUTE", [](const DeviceMemory& m) { return m.compute; }},
                              Part{"OUTPUT", [](const DeviceMemory& m) { return m.output; }}};
  const Unit unit = unit_for(report);
  std::vector<Part> parts;
  std::ranges::copy_if(kParts, std::back_inserter(parts), [&](const Part& part) {
    return std::ranges::any_of(report.plan.shares, [&](const Share& share) {
      return unit.text(part.value(share.memory)) != unit.text(0);
    });
  });

  constexpr auto kRight = Table::Align::kRight;
  std::vector<Table::Column> columns{
      {fmt::format("DEVICE ({})", unit.name)}, {"LAYERS"}, {"SUM", kRight}, {"USABLE", kRight}};
  for (const Part& part : parts) columns.push_back({std::string(part.title), kRight});
  std::vector<Difference> others;
  if (report.other_attention) {
    others = differences(report.plan, *report.other_attention);
    columns.push_back({report.options.flash_attention ? "FA OFF" : "FA ON", kRight});
  }
  Table table(std::move(columns));
  for (const Share& share : report.plan.shares) {
    std::vector<std::string> row{one_line(report.inventory.devices[share.device].name),
                                 layers_text(share), unit.text(share.memory.total()),
                                 unit.text(report.inventory.usable(share.device))};
    for (const Part& part : parts) row.push_back(unit.text(part.value(share.memory)));
    const auto other = std::ranges::find(others, share.device, &Difference::device);
    if (other != others.end()) row.push_back(unit.signed_text(other->bytes));
    table.add_row(std::move(row));
  }
  return table.render(terminal);
}

std::string pool_table(const PlanReport& report, const Terminal& terminal) {
  const Unit unit = unit_for(report);
  constexpr auto kRight = Table::Align::kRight;
  Table table({{fmt::format("MEMORY ({})", unit.name)},
               {"PLANNED", kRight},
               {"USABLE", kRight},
               {"LEFT", kRight},
               {"RESERVED", kRight},
               {"IN USE", kRight}});
  for (const PoolUse& use : report.plan.pools) {
    const Pool& pool = report.inventory.pools[use.pool];
    const bool over = use.planned > use.usable;
    table.add_row(
        {one_line(pool.name), unit.text(use.planned), unit.text(use.usable),
         over ? fmt::format("-{}", unit.text(use.planned - use.usable)) : unit.text(left_of(use)),
         unit.text(std::min(pool.reserve, pool.free)),
         unit.text(pool.total > pool.free ? pool.total - pool.free : 0)});
  }
  return table.render(terminal);
}

std::string other_attention_text(const PlanReport& report) {
  const std::string_view way = report.options.flash_attention ? "off" : "on";
  if (!report.other_attention) return fmt::format("{}: {}", way, report.other_refused);
  const Plan& other = *report.other_attention;
  std::int64_t sum = 0;
  for (const Difference& difference : differences(report.plan, other)) sum += difference.bytes;
  const auto size = static_cast<Bytes>(sum < 0 ? -sum : sum);
  const std::string end =
      other.fits ? fmt::format("It {} fit.", report.plan.fits ? "would still" : "would")
                 : fmt::format("{} would be missing.", format_memory(other.missing));
  if (sum == 0) return fmt::format("{} would take the same memory. {}", way, end);
  return fmt::format("{} would take {} {}, as the last column shows. {}", way, format_memory(size),
                     sum < 0 ? "less" : "more", end);
}

std::string longest_text(const PlanReport& report) {
  if (!report.longest_context) return "none: not even 256 tokens";
  const auto trained = report.summary.context_length;
  const bool all = trained && *report.longest_context + 256 > *trained;
  return fmt::format("{} tokens{}", *report.longest_context,
                     all ? ", as long as the model was trained for" : "");
}

std::string remedies_text(const PlanReport& report) {
  if (report.remedies.remedies.empty()) {
    return fmt::format(
        "No option does: even with 256 tokens of context {} are missing. It takes a smaller "
        "quantization or more memory.",
        format_memory(report.remedies.missing));
  }
  std::vector<std::string> ways;
  for (const planner::Remedy& remedy : report.remedies.remedies) ways.push_back(remedy.change);
  return fmt::format("{}", fmt::join(ways, ", or "));
}

// What the engine's memory grows by is in what `yoke serve` keeps free for it.
std::string cache_ram_text(const PlanReport& report) {
  const std::uint32_t host = report.inventory.devices.front().pool;
  const PoolUse& use = report.plan.pools[host];
  std::string text =
      fmt::format("up to {} more of {} as it serves (cache_ram)", format_memory(report.cache_ram),
                  report.inventory.pools[host].name);
  if (!report.plan.fits || left_of(use) >= report.cache_ram) return text;
  return text + fmt::format(
                    ". Of that only {} are left, so `yoke serve` does not load it: set a smaller "
                    "cache_ram",
                    format_memory(left_of(use)));
}

std::string tensor_split_text(const PlanReport& report) {
  return fmt::format("n_gpu_layers = {}, tensor_split = [{}]", report.plan.gpu_layers,
                     fmt::join(planner::tensor_split_of(report.plan, report.inventory), ", "));
}

// JSON

// Bytes and what they are for, of one device.
json::object device_json(const PlanReport& report, const Share& share) {
  const ComputeDevice& device = report.inventory.devices[share.device];
  json::value layers = nullptr;
  if (share.layers > 0) {
    layers = json::array{share.first_layer, share.first_layer + share.layers - 1};
  }
  return {{"name", device.name},
          {"backend", device.backend},
          {"remote", device.remote},
          {"memory", report.inventory.pools[device.pool].name},
          {"layers", std::move(layers)},
          {"output", share.output},
          {"weights", share.memory.weights},
          {"kv", share.memory.kv},
          {"state", share.memory.state},
          {"compute", share.memory.compute},
          {"output_buffer", share.memory.output},
          {"total", share.memory.total()},
          {"usable", report.inventory.usable(share.device)}};
}

json::object pool_json(const Inventory& inventory, const PoolUse& use) {
  const Pool& pool = inventory.pools[use.pool];
  return {{"name", pool.name},       {"total", pool.total},  {"free", pool.free},
          {"reserve", pool.reserve}, {"usable", use.usable}, {"planned", use.planned},
          {"left", left_of(use)}};
}

json::object options_json(const RunOptions& options) {
  return {{"n_ctx", options.n_ctx},
          {"n_batch", options.n_batch},
          {"n_ubatch", options.n_ubatch},
          {"sequences", options.sequences},
          {"unified_cache", options.unified_cache},
          {"flash_attention", options.flash_attention},
          {"cache_type_k", options.cache_type_k},
          {"cache_type_v", options.cache_type_v}};
}

json::object other_attention_json(const PlanReport& report) {
  json::object object{{"flash_attention", !report.options.flash_attention}};
  if (!report.other_attention) {
    object["refused"] = report.other_refused;
    return object;
  }
  object["fits"] = report.other_attention->fits;
  object["missing"] = report.other_attention->missing;
  json::array devices;
  for (const Difference& difference : differences(report.plan, *report.other_attention)) {
    devices.push_back(json::object{{"name", report.inventory.devices[difference.device].name},
                                   {"total", difference.total},
                                   {"difference", difference.bytes}});
  }
  object["devices"] = std::move(devices);
  return object;
}

json::array remedies_json(const PlanReport& report) {
  json::array remedies;
  for (const planner::Remedy& remedy : report.remedies.remedies) {
    remedies.push_back(
        json::object{{"change", remedy.change}, {"options", options_json(remedy.options)}});
  }
  return remedies;
}

// What of the summary tells models apart.
json::object model_json(const PlanReport& report) {
  json::object all = summary_json(report.summary, report.model);
  json::object object;
  for (const std::string_view key : {"name", "architecture", "parameters", "file_bytes", "files",
                                     "quantization", "file_type", "context_length", "layers"}) {
    const json::string_view name(key.data(), key.size());
    object[name] = all[name];
  }
  return object;
}

json::array strings_json(const std::vector<std::string>& strings) {
  json::array array;
  for (const std::string& text : strings) array.push_back(json::value(one_line(text)));
  return array;
}

std::vector<std::string> all_notes(const PlanReport& report) {
  std::vector<std::string> notes = report.plan.notes;
  notes.insert(notes.end(), report.notes.begin(), report.notes.end());
  return notes;
}

}  // namespace

std::string format_plan(const PlanReport& report, const Terminal& terminal) {
  const auto width = static_cast<std::size_t>(terminal.width);
  std::string text = wrap_behind("", model_line(report), width);
  for (const std::string& line : wrap(one_line(answer_line(report)), width)) {
    text += terminal.bold(line) + "\n";
  }
  text += fmt::format("\n{}\n{}\n", device_table(report, terminal), pool_table(report, terminal));
  Page page(terminal, kLabelWidth);
  page.add("Planned for", report.hardware);
  page.add("Options", options_text(report.options));
  page.add("Longest context", longest_text(report));
  page.add("Flash attention", other_attention_text(report));
  if (report.cache_ram > 0) page.add("Earlier prompts", cache_ram_text(report));
  if (!report.plan.fits) page.add("To make it fit", remedies_text(report));
  if (report.plan.fits && report.plan.gpu_layers > 0 && report.inventory.devices.size() > 2) {
    page.add("To place it so", tensor_split_text(report));
  }
  text += page.text();
  const std::vector<std::string> notes = all_notes(report);
  if (!notes.empty()) text += "\n";
  for (const std::string& note : notes) text += wrap_behind("- ", one_line(note), width);
  return text;
}

json::object plan_json(const PlanReport& report) {
  json::array devices;
  for (const Share& share : report.plan.shares) devices.push_back(device_json(report, share));
  json::array pools;
  for (const PoolUse& use : report.plan.pools) pools.push_back(pool_json(report.inventory, use));
  json::array split;
  for (const std::uint32_t part : planner::tensor_split_of(report.plan, report.inventory)) {
    split.push_back(part);
  }
  return {{"model", model_json(report)},
          {"format", "gguf"},
          {"hardware", report.hardware},
          {"options", options_json(report.options)},
          {"fits", report.plan.fits},
          {"why", report.plan.why},
          {"missing", report.plan.missing},
          {"gpu_layers", report.plan.gpu_layers},
          {"tensor_split", std::move(split)},
          {"devices", std::move(devices)},
          {"memory", std::move(pools)},
          {"cache_ram", report.cache_ram},
          {"longest_context",
           report.longest_context ? json::value(*report.longest_context) : json::value(nullptr)},
          {"other_attention", other_attention_json(report)},
          {"remedies", remedies_json(report)},
          {"notes", strings_json(all_notes(report))}};
}

}  // namespace yoke::cli
