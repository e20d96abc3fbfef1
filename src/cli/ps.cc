#include "cli/ps.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/print_reply.h"
#include "cli/table.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;
using Align = Table::Align;

constexpr double kLongestSeconds = 1e9;

// A process number, port or size of something that does not run is 0 or absent.
std::string number_or_nothing(const JsonFields& instance, std::string_view name) {
  const std::int64_t value = instance.integer_or(name, 0);
  return value > 0 ? std::to_string(value) : "";
}

std::uint64_t bytes_of(const JsonFields& fields, std::string_view name) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(fields.integer_or(name, 0), 0));
}

// None if it is absent.
std::optional<std::chrono::milliseconds> time_of(const JsonFields& fields, std::string_view name) {
  const auto seconds = fields.number(name);
  if (!seconds || !(*seconds >= 0)) return std::nullopt;
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(std::min(*seconds, kLongestSeconds) * 1000));
}

// "1.2 of 1.3 GiB", "900 MiB of 1.3 GiB".
std::string part_of(std::uint64_t part, std::uint64_t whole) {
  std::string text = format_memory(part);
  const std::string whole_text = format_memory(whole);
  const std::string unit = text.substr(text.find(' '));
  if (whole_text.ends_with(unit)) text.resize(text.size() - unit.size());
  return fmt::format("{} of {}", text, whole_text);
}

// What it really holds of what was planned; what is planned only, by itself.
std::string memory_text(const JsonFields& instance) {
  const std::uint64_t planned = bytes_of(instance, "planned_bytes");
  const std::uint64_t real = bytes_of(instance, "memory_bytes");
  if (planned == 0 && real == 0) return "";
  if (planned == 0) return format_memory(real);
  return real > 0 ? part_of(real, planned) : format_memory(planned);
}

std::string requests_text(const JsonFields& instance) {
  const std::int64_t all = instance.integer_or("active_requests", 0);
  const std::int64_t waiting = std::min(instance.integer_or("waiting", 0), all);
  return waiting > 0 ? fmt::format("{} + {} waiting", all - waiting, waiting) : std::to_string(all);
}

std::string last_used(const JsonFields& instance) {
  if (instance.integer_or("active_requests", 0) > instance.integer_or("waiting", 0)) return "now";
  const auto ago = time_of(instance, "last_used_s");
  if (!ago) return "";
  if (*ago < 1s) return "just now";
  if (*ago < 1min) return fmt::format("{} s ago", *ago / 1s);
  if (*ago < 1h) return fmt::format("{} min ago", *ago / 1min);
  if (*ago < 24h) return fmt::format("{} h ago", *ago / 1h);
  return fmt::format("{} d ago", *ago / 24h);
}

std::string next_text(const JsonFields& instance) {
  std::string next = printable(instance.string_or("next", ""));
  if (!instance.boolean("pinned").value_or(false)) return next;
  return next.empty() ? "stays, pinned" : next + ", pinned";
}

std::string uptime(const JsonFields& instance) {
  const auto time = time_of(instance, "uptime_s");
  const bool runs = instance.integer_or("pid", 0) > 0;
  return runs && time && *time > 0ms ? format_duration(*time) : "";
}

struct Cell {
  Table::Column column;
  std::string text;
};

std::vector<Cell> cells_of(const JsonFields& instance, bool wide) {
  std::vector<Cell> cells;
  const auto add = [&cells](const char* title, std::string text, Align align = Align::kLeft) {
    Cell& cell = cells.emplace_back();
    cell.column.title = title;
    cell.column.align = align;
    cell.text = std::move(text);
  };
  const auto text = [&](std::string_view name) { return printable(instance.string_or(name, "")); };
  add("MODEL", text("model"));
  add("STATE", text("state"));
  if (wide) add("ENGINE", text("engine"));
  add("BACKEND", text("backend"));
  if (wide) {
    add("PID", number_or_nothing(instance, "pid"), Align::kRight);
    // Of an engine that is gone, too.
    const bool runs = instance.integer_or("pid", 0) > 0;
    add("PORT", runs ? number_or_nothing(instance, "port") : "", Align::kRight);
    add("UPTIME", uptime(instance), Align::kRight);
    add("RESTARTS", std::to_string(instance.integer_or("restarts", 0)), Align::kRight);
  }
  add("MEMORY", memory_text(instance), Align::kRight);
  add("CONTEXT", number_or_nothing(instance, "n_ctx"), Align::kRight);
  add("REQUESTS", requests_text(instance), Align::kRight);
  add("LAST USED", last_used(instance), Align::kRight);
  add("NEXT", next_text(instance));
  return cells;
}

Table table_of(const std::vector<JsonFields>& instances, const Terminal& terminal, bool wide) {
  std::vector<Table::Column> columns;
  for (Cell& cell : cells_of(instances.front(), wide)) columns.push_back(std::move(cell.column));
  Table table(std::move(columns));
  for (const JsonFields& instance : instances) {
    std::vector<std::string> row;
    for (Cell& cell : cells_of(instance, wide)) row.push_back(std::move(cell.text));
    table.add_row(std::move(row));
    if (const auto error = instance.object("error")) {
      table.add_note(terminal.dim(printable(error->string_or("message", ""))));
    }
  }
  return table;
}

// "system memory: 3.1 of 20 GiB for models (1 GiB promised)"
std::string pool_line(const JsonFields& pool) {
  const std::uint64_t promised = bytes_of(pool, "promised");
  return fmt::format("{}: {} for models{}\n", printable(pool.string_or("name", "")),
                     part_of(bytes_of(pool, "used"), bytes_of(pool, "budget")),
                     promised > 0 ? fmt::format(" ({} promised)", format_memory(promised)) : "");
}

}  // namespace

Result<std::string> format_instances(const boost::json::value& reply, const Terminal& terminal,
                                     bool wide) {
  YOKE_TRY(const JsonFields body, JsonFields::of(reply));
  YOKE_TRY(const std::vector<JsonFields> instances, body.objects("instances"));
  if (instances.empty()) return std::string("No models are configured.\n");
  std::string text = table_of(instances, terminal, wide).render(terminal);
  // Older servers don't say it.
  const auto pools = body.objects("memory");
  if (!pools || pools->empty()) return text;
  text += '\n';
  for (const JsonFields& pool : *pools) text += pool_line(pool);
  return text;
}

Result<void> ps(const PsOptions& options) {
  return print_reply(options.connect, {.target = std::string(kInstancesTarget)}, options.json,
                     [&](const boost::json::value& reply) {
                       return format_instances(reply, Terminal::of(stdout), options.wide);
                     });
}

}  // namespace yoke::cli
