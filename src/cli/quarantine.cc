#include "cli/quarantine.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/print_reply.h"
#include "cli/table.h"
#include "hardware/machine.h"

namespace yoke::cli {
namespace {

using hardware::Backend;
using std::chrono::milliseconds;

constexpr std::string_view kPath = "/yoke/v1/quarantine";
constexpr double kLongestSeconds = 1e9;

void add_quarantine(Table& table, const JsonFields& quarantine, const Terminal& terminal) {
  const auto text = [&](std::string_view name) {
    return printable(quarantine.string_or(name, ""));
  };
  table.add_row({text("model"), text("backend"), text("failure"),
                 std::to_string(quarantine.integer_or("count", 0)), remaining_time(quarantine)});
  for (const char* name : {"message", "engine", "driver"}) {
    if (const std::string note = text(name); !note.empty()) table.add_note(terminal.dim(note));
  }
}

// A name that is misspelt would else clear nothing, and look as if nothing had been there.
Result<void> check_backend(const std::string& backend) {
  constexpr std::array kBackends{Backend::kVulkan, Backend::kRocm, Backend::kCuda, Backend::kCpu};
  std::array<std::string_view, kBackends.size()> names;
  std::ranges::transform(kBackends, names.begin(), [](Backend one) { return name_of(one); });
  if (backend.empty() || std::ranges::find(names, backend) != names.end()) return {};
  return fail(kInvalidArgument, fmt::format("There is no backend '{}'.", backend),
              fmt::format("There is {}.", fmt::join(names, ", ")));
}

std::string clear_target(const QuarantineOptions& options) {
  std::string target(kPath);
  char separator = '?';
  const auto add = [&](std::string_view name, const std::string& value) {
    if (value.empty()) return;
    target += fmt::format("{}{}={}", separator, name, encode_query(value));
    separator = '&';
  };
  add("model", options.model);
  add("backend", options.backend);
  return target;
}

}  // namespace

std::string remaining_time(const JsonFields& quarantine) {
  const double seconds = quarantine.number("remaining_s").value_or(0);
  if (!(seconds > 0)) return "0 s";
  const double bounded = std::min(seconds, kLongestSeconds);
  return format_duration(milliseconds(static_cast<std::int64_t>(bounded * 1000)));
}

Result<std::string> format_quarantines(const boost::json::value& reply, const Terminal& terminal) {
  using Align = Table::Align;
  YOKE_TRY(const JsonFields body, JsonFields::of(reply));
  YOKE_TRY(const std::vector<JsonFields> quarantines, body.objects("quarantines"));
  if (quarantines.empty()) return std::string("No backend is in quarantine.\n");
  Table table(
      {{"MODEL"}, {"BACKEND"}, {"FAILURE"}, {"TIMES", Align::kRight}, {"ENDS IN", Align::kRight}});
  for (const JsonFields& quarantine : quarantines) add_quarantine(table, quarantine, terminal);
  return table.render(terminal);
}

Result<std::string> format_cleared(const boost::json::value& reply) {
  YOKE_TRY(const JsonFields body, JsonFields::of(reply));
  YOKE_TRY(const std::int64_t cleared, body.integer("cleared"));
  if (cleared == 0) return std::string("Nothing of that was in quarantine.\n");
  return fmt::format("{} {} cleared.\n", cleared, cleared == 1 ? "quarantine" : "quarantines");
}

Result<void> quarantine_list(const QuarantineOptions& options) {
  return print_reply(options.connect, {.target = std::string(kPath)}, options.json,
                     [](const boost::json::value& reply) {
                       return format_quarantines(reply, Terminal::of(stdout));
                     });
}

Result<void> quarantine_clear(const QuarantineOptions& options) {
  YOKE_CHECK(check_backend(options.backend));
  return print_reply(options.connect, {.method = "DELETE", .target = clear_target(options)},
                     options.json, format_cleared);
}

}  // namespace yoke::cli
