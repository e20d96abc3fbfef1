#include "cli/page.h"

#include <fmt/format.h>

#include "cli/text_wrap.h"

namespace yoke::cli {

std::string one_line(std::string_view text) { return wrap(printable(text), 0).front(); }

void Page::title(std::string_view text) {
  if (!text_.empty()) text_ += "\n";
  text_ += terminal_.bold(one_line(text)) + "\n";
}

void Page::add(std::string_view label, std::string_view value) {
  add_wrapped(fmt::format("  {:<{}} ", label, label_width_), value);
}

void Page::more(std::string_view value) {
  if (!value.empty()) add("", value);
}

void Page::line(std::string_view value) { add_wrapped("  ", value); }

void Page::verbatim(std::string_view value) { text_.append("  ").append(value).append("\n"); }

void Page::add_wrapped(std::string before, std::string_view value) {
  text_ +=
      wrap_behind(std::move(before), one_line(value), static_cast<std::size_t>(terminal_.width));
}

}  // namespace yoke::cli
