// What the user types in a chat: messages, also of several lines, and slash commands. Pure; one
// thread at a time.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke::cli {

struct ChatCommand {
  enum class Kind { kHelp, kClear, kSystem, kSet, kSave, kStats, kExit };
  Kind kind;
  std::string argument{};  // What stands behind the name, without the blanks around it.
};

// "/set temperature 0.7". kInvalidArgument with the command that may have been meant.
Result<ChatCommand> parse_chat_command(std::string_view line);

// The lines that /help shows.
std::string_view chat_help();

// Puts messages together out of lines: """ at the start of a line opens a text of several lines,
// and """ at the end of a line closes it.
class MessageCollector {
 public:
  // The message, if it is complete with this line.
  std::optional<std::string> add_line(std::string_view line);
  bool open() const { return open_; }
  void drop();

 private:
  bool open_ = false;
  std::string text_;
};

}  // namespace yoke::cli
