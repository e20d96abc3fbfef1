#include "cli/reload.h"

#include <array>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json_fields.h"
#include "cli/answer_view.h"
#include "cli/print_reply.h"
#include "cli/terminal.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;

// Engines may have to be asked what they can do.
constexpr http::ClientTimeouts kTimeouts{.connect = 5s, .head = 5min, .idle = 1min};

struct Kind {
  std::string_view field;
  std::string_view text;
};

constexpr std::array kKinds{
    Kind{"added", "New: {}."},
    Kind{"removed", "Gone: {}."},
    Kind{"restarted", "Loaded again with other options, once nothing is being answered: {}."},
    Kind{"changed", "Run on with other settings: {}."},
    Kind{"needs_restart", "Only a restart of `yoke serve` takes over: {}."},
};

// Those in a field; it may be absent.
Result<std::vector<std::string>> names_in(const boost::json::object& reply,
                                          std::string_view field) {
  const boost::json::value* value = reply.if_contains({field.data(), field.size()});
  if (value == nullptr) return std::vector<std::string>();
  const boost::json::array* array = value->if_array();
  if (array == nullptr) return fail(kInvalidJson, fmt::format("{}: expected an array.", field));
  std::vector<std::string> names;
  for (const boost::json::value& element : *array) {
    const boost::json::string* name = element.if_string();
    if (name == nullptr) return fail(kInvalidJson, fmt::format("{}: expected strings.", field));
    names.push_back(printable({name->data(), name->size()}));
  }
  return names;
}

}  // namespace

Result<std::string> format_reload(const boost::json::value& reply) {
  if (!reply.is_object()) return fail(kInvalidJson, "expected an object.");
  std::string text;
  for (const Kind& kind : kKinds) {
    YOKE_TRY(const std::vector<std::string> names, names_in(reply.get_object(), kind.field));
    if (names.empty()) continue;
    text += fmt::format(fmt::runtime(kind.text), fmt::join(names, ", ")) + "\n";
  }
  return text.empty() ? "Nothing changed.\n" : text;
}

Result<void> reload(const ReloadOptions& options) {
  return print_reply(
      options.connect,
      {.method = "POST", .target = "/yoke/v1/reload", .body = "{}", .timeouts = kTimeouts},
      options.json, format_reload);
}

}  // namespace yoke::cli
