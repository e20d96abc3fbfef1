#include "engines/capabilities.h"

#include <algorithm>
#include <vector>

#include "engines/text_lines.h"

namespace yoke::engines {
namespace {

constexpr std::string_view kVersionMark = "version: ";
constexpr std::string_view kRemovedMark = "argument has been removed";

std::string version_of(std::string_view output) {
  while (!output.empty()) {
    const std::string_view line = take_line(output);
    const std::size_t mark = line.find(kVersionMark);
    if (mark != std::string_view::npos) return std::string(line.substr(mark + kVersionMark.size()));
  }
  return {};
}

// One entry of the help: "-c,    --ctx-size N      size of the ..." and the indented lines below.
struct Entry {
  std::vector<std::string_view> flags;
  std::vector<std::string_view> values;
  bool takes_value = false;
  bool removed = false;
};

// Flags are separated by commas. A value stands one space after the last flag; a description is set
// off by more, or starts on the next line.
Entry parse_entry(std::string_view line) {
  Entry entry;
  while (line.starts_with('-')) {
    const std::string_view word = line.substr(0, line.find_first_of(" ,"));
    if (word.find_first_not_of('-') == std::string_view::npos) break;  // "----- params -----"
    entry.flags.push_back(word);
    line.remove_prefix(word.size());
    if (!line.starts_with(',')) {
      entry.takes_value = line.size() > 1 && line[0] == ' ' && line[1] != ' ';
      break;
    }
    line.remove_prefix(line.find_first_not_of(", ") == std::string_view::npos
                           ? line.size()
                           : line.find_first_not_of(", "));
  }
  return entry;
}

// "   - mlock: force system ..." lists a value; anything else gives an empty word.
std::string_view listed_value(std::string_view line) {
  constexpr std::string_view kMark = "- ";
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  if (!line.starts_with(kMark)) return {};
  line.remove_prefix(kMark.size());
  const std::size_t end = line.find_first_of(": ");
  return end != std::string_view::npos && line[end] == ':' ? line.substr(0, end)
                                                           : std::string_view();
}

void add(const Entry& entry, Capabilities& capabilities) {
  if (entry.removed) return;
  for (const std::string_view flag : entry.flags) {
    capabilities.flags.emplace(flag);
    if (entry.takes_value) capabilities.valued.emplace(flag);
    for (const std::string_view value : entry.values) {
      capabilities.choices.insert(std::string(flag).append("=").append(value));
    }
  }
}

}  // namespace

Result<Capabilities> parse_capabilities(std::string_view version_output,
                                        std::string_view help_output) {
  Capabilities capabilities;
  capabilities.version = version_of(version_output);
  Entry entry;
  while (!help_output.empty()) {
    const std::string_view line = take_line(help_output);
    if (line.starts_with('-')) {
      add(entry, capabilities);
      entry = parse_entry(line);
    } else if (const std::string_view value = listed_value(line); !value.empty()) {
      entry.values.push_back(value);
    }
    // The help goes on naming flags that only give an error.
    if (line.find(kRemovedMark) != std::string_view::npos) entry.removed = true;
  }
  add(entry, capabilities);
  if (capabilities.flags.empty()) {
    return fail(kEngineUnusable, "The engine did not list its options when asked with --help.",
                "Is it a llama-server, and does it start on this machine?");
  }
  return capabilities;
}

}  // namespace yoke::engines
