#include "cli/chat_input.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/nearest.h"

namespace yoke::cli {
namespace {

using Kind = ChatCommand::Kind;

struct KnownCommand {
  std::string_view name;
  Kind kind;
  std::string_view argument;  // What it takes; empty: nothing.
};

constexpr std::array<KnownCommand, 9> kCommands{{
    {"/help", Kind::kHelp, ""},
    {"/?", Kind::kHelp, ""},
    {"/clear", Kind::kClear, ""},
    {"/system", Kind::kSystem, "TEXT"},
    {"/set", Kind::kSet, "NAME VALUE"},
    {"/save", Kind::kSave, "FILE"},
    {"/stats", Kind::kStats, ""},
    {"/exit", Kind::kExit, ""},
    {"/quit", Kind::kExit, ""},
}};

constexpr std::string_view kFence = "\"\"\"";

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

tl::unexpected<Error> unknown_command(std::string_view name) {
  std::array<std::string_view, kCommands.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kCommands[i].name;
  const auto meant = nearest(name, names);
  return fail(kInvalidArgument, fmt::format("There is no command {}.", name),
              fmt::format("{}A message to the model can begin with a blank, then the slash.",
                          meant ? fmt::format("Did you mean {}? ", *meant)
                                : std::string("/help lists the commands. ")));
}

}  // namespace

Result<ChatCommand> parse_chat_command(std::string_view line) {
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  const std::string_view name = line.substr(0, end);
  const std::string_view argument = trim(line.substr(end));
  for (const KnownCommand& known : kCommands) {
    if (known.name != name) continue;
    if (known.argument.empty() && !argument.empty()) {
      return fail(kInvalidArgument, fmt::format("{} takes nothing behind it.", name));
    }
    if (known.kind == Kind::kSave && argument.empty()) {
      return fail(kInvalidArgument, fmt::format("{} needs a {}.", name, known.argument));
    }
    return ChatCommand{known.kind, std::string(argument)};
  }
  return unknown_command(name);
}

std::string_view chat_help() {
  return "/clear           forget the conversation\n"
         "/system TEXT     set the system prompt; without TEXT, show it; \"\" removes it\n"
         "/set NAME VALUE  temperature, top_p, max_tokens or seed; alone, show them\n"
         "/save FILE       write the conversation to a new file: Markdown, or JSON for *.json\n"
         "/stats           tokens so far\n"
         "/exit            end (also Ctrl-D)\n"
         "\"\"\"              begins and ends a message of several lines\n"
         "Ctrl-C           stops an answer, and at the prompt clears the line\n";
}

std::optional<std::string> MessageCollector::add_line(std::string_view line) {
  if (!open_) {
    if (!line.starts_with(kFence)) return std::string(line);
    open_ = true;
    text_.clear();
    line.remove_prefix(kFence.size());
    // Nothing behind the opening fence: the text begins on the next line.
    if (line.empty()) return std::nullopt;
  }
  const bool closes = line.ends_with(kFence);
  if (closes) line.remove_suffix(kFence.size());
  text_ += line;
  if (!closes) {
    text_ += '\n';
    return std::nullopt;
  }
  open_ = false;
  if (text_.ends_with('\n')) text_.pop_back();
  return std::exchange(text_, {});
}

void MessageCollector::drop() {
  open_ = false;
  text_.clear();
}

}  // namespace yoke::cli
