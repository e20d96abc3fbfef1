// parse_vllm_help(): Python's argparse writes its help in another form than llama.cpp.
#include <algorithm>

#include "engines/text_lines.h"
#include "engines/vllm.h"

namespace yoke::engines {
namespace {

// Options stand two columns in; descriptions, which may begin with a dash, stand further right.
constexpr std::string_view kIndent = "  ";

// "--a {x,y}, -b" up to the first comma outside of brackets, which is taken off it.
std::string_view take_spelling(std::string_view& rest) {
  int depth = 0;
  std::size_t end = 0;
  for (; end < rest.size(); ++end) {
    const char c = rest[end];
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c == ',' && depth <= 0) break;
  }
  const std::string_view spelling = rest.substr(0, end);
  rest.remove_prefix(std::min(rest.size(), end + 1));
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  return spelling;
}

// A description on the same line is set off by two spaces or more.
std::string_view without_description(std::string_view line) {
  return line.substr(0, line.find(kIndent));
}

void add_entry(std::string_view entry, Capabilities& capabilities) {
  while (!entry.empty()) {
    const std::string_view spelling = take_spelling(entry);
    if (!spelling.starts_with('-')) return;
    const std::size_t space = spelling.find(' ');
    const std::string_view flag = spelling.substr(0, space);
    capabilities.flags.emplace(flag);
    if (space != std::string_view::npos) capabilities.valued.emplace(flag);
  }
}

}  // namespace

Result<Capabilities> parse_vllm_help(std::string_view version, std::string_view help_output) {
  Capabilities capabilities;
  capabilities.version = std::string(version);
  while (!help_output.empty()) {
    std::string_view line = take_line(help_output);
    if (!line.starts_with(kIndent)) continue;
    line.remove_prefix(kIndent.size());
    if (line.starts_with('-')) add_entry(without_description(line), capabilities);
  }
  if (!capabilities.has("--served-model-name")) {
    return fail(kEngineUnusable,
                "vLLM did not list its options when asked with `serve --help=all`.",
                "Run that by hand to see what is wrong, or install it again with `yoke engine "
                "install vllm`.");
  }
  return capabilities;
}

}  // namespace yoke::engines
