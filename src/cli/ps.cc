#include "cli/ps.h"

#include <cstdio>

#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/table.h"

namespace yoke::cli {
namespace {

using std::chrono::milliseconds;

// A process number, port or time of something that does not run is 0 or absent.
std::string number_or_nothing(const JsonFields& instance, std::string_view name) {
  const std::int64_t value = instance.integer_or(name, 0);
  return value > 0 ? std::to_string(value) : "";
}

std::string uptime(const JsonFields& instance) {
  const auto seconds = instance.number("uptime_s");
  const bool runs = instance.integer_or("pid", 0) > 0;
  if (!runs || !seconds || *seconds <= 0) return "";
  return format_duration(milliseconds(static_cast<std::int64_t>(*seconds * 1000)));
}

void add_instance(Table& table, const JsonFields& instance, const Terminal& terminal) {
  const auto text = [&](std::string_view name) { return printable(instance.string_or(name, "")); };
  table.add_row({text("model"), text("state"), text("engine"), text("backend"),
                 number_or_nothing(instance, "pid"), number_or_nothing(instance, "port"),
                 uptime(instance), std::to_string(instance.integer_or("restarts", 0)),
                 std::to_string(instance.integer_or("active_requests", 0))});
  if (const auto error = instance.object("error")) {
    table.add_note(terminal.dim(printable(error->string_or("message", ""))));
  }
}

}  // namespace

Result<std::string> format_instances(const boost::json::value& reply, const Terminal& terminal) {
  using Align = Table::Align;
  YOKE_TRY(const JsonFields body, JsonFields::of(reply));
  YOKE_TRY(const std::vector<JsonFields> instances, body.objects("instances"));
  if (instances.empty()) return std::string("No models are configured.\n");
  Table table({{"MODEL"},
               {"STATE"},
               {"ENGINE"},
               {"BACKEND"},
               {"PID", Align::kRight},
               {"PORT", Align::kRight},
               {"UPTIME", Align::kRight},
               {"RESTARTS", Align::kRight},
               {"REQUESTS", Align::kRight}});
  for (const JsonFields& instance : instances) add_instance(table, instance, terminal);
  return table.render(terminal);
}

Result<void> ps(const PsOptions& options) {
  const Interrupts interrupts;
  YOKE_TRY(const ServerClient client, ServerClient::create(options.connect, &interrupts));
  Call call{.target = "/yoke/v1/instances"};
  if (options.json) {
    YOKE_TRY(std::string text, client.fetch(std::move(call)));
    if (!text.ends_with('\n')) text += '\n';
    std::fputs(text.c_str(), stdout);
    return flush_stdout();
  }
  YOKE_TRY(const boost::json::value reply, client.fetch_json(std::move(call)));
  YOKE_TRY(const std::string table, format_instances(reply, Terminal::of(stdout)));
  std::fputs(table.c_str(), stdout);
  return flush_stdout();
}

}  // namespace yoke::cli
