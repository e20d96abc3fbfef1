#include "cli/chat.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>

#include <fmt/format.h>

#include "base/paths.h"
#include "base/unique_fd.h"
#include "cli/ask.h"
#include "cli/chat_input.h"
#include "cli/input_history.h"
#include "cli/known_models.h"
#include "cli/line_editor.h"

namespace yoke::cli {
namespace {

using End = LineEditor::End;

void say(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// Never over a file that is there.
Result<void> save(const ChatSession& session, const std::filesystem::path& file) {
  const std::string text = file.extension() == ".json" ? session.json() : session.markdown();
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd && errno == EEXIST) {
    return fail(kIo, fmt::format("{} is there already.", file.string()), "Choose another name.");
  }
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return fail(kIo, fmt::format("Cannot write {}: {}.", file.string(), std::strerror(errno)));
  }
  return {};
}

class Chat {
 public:
  Chat(const ServerClient& client, Interrupts& interrupts, ChatSession session, bool show_stats)
      : client_(client),
        interrupts_(interrupts),
        session_(std::move(session)),
        show_stats_(show_stats),
        terminal_(Terminal::of(stdout)),
        history_(state_dir() / "history") {}

  Result<void> run();

 private:
  void load_history();
  void remember(const std::string& line);
  // False: the conversation is over.
  bool take_line(const std::string& line);
  bool obey(const std::string& line);
  Result<void> carry_out(const ChatCommand& command);
  Result<void> change_setting(const std::string& argument);
  void change_system(const std::string& argument);
  void answer(std::string question);

  const ServerClient& client_;
  Interrupts& interrupts_;
  ChatSession session_;
  bool show_stats_;
  Terminal terminal_;
  InputHistory history_;
  bool history_failed_ = false;
  LineEditor editor_;
  MessageCollector collector_;
  StatsTotal total_;
};

Result<void> Chat::run() {
  load_history();
  say(terminal_.dim(fmt::format("{} at {}. /help lists the commands, Ctrl-D ends.",
                                printable(session_.model()), client_.url())) +
      "\n");
  while (true) {
    const LineEditor::Line line = editor_.read(collector_.open() ? "... " : ">>> ");
    if (line.end == End::kEndOfInput) {
      say("\n");
      return {};
    }
    if (line.end == End::kInterrupted) {
      collector_.drop();
    } else if (!take_line(line.text)) {
      return {};
    }
  }
}

void Chat::load_history() {
  const auto lines = history_.load();
  if (!lines) {
    history_failed_ = true;
    print_error(lines.error());
    return;
  }
  for (const std::string& line : *lines) editor_.add_history(line);
}

void Chat::remember(const std::string& line) {
  editor_.add_history(line);
  // A chat without a history file is still a chat: say so once.
  if (history_failed_) return;
  if (const auto kept = history_.append(line); !kept) {
    history_failed_ = true;
    print_error(kept.error());
  }
}

bool Chat::take_line(const std::string& line) {
  const bool blank = line.find_first_not_of(" \t") == std::string::npos;
  if (!blank) remember(line);
  if (!collector_.open() && blank) return true;
  if (!collector_.open() && line.starts_with('/')) return obey(line);
  auto message = collector_.add_line(line);
  if (message && message->find_first_not_of(" \t\n") != std::string::npos) {
    answer(std::move(*message));
  }
  return true;
}

bool Chat::obey(const std::string& line) {
  const auto command = parse_chat_command(line);
  if (!command) {
    print_error(command.error());
    return true;
  }
  if (command->kind == ChatCommand::Kind::kExit) return false;
  if (const auto done = carry_out(*command); !done) print_error(done.error());
  return true;
}

Result<void> Chat::carry_out(const ChatCommand& command) {
  switch (command.kind) {
    case ChatCommand::Kind::kHelp:
      say(std::string(chat_help()));
      break;
    case ChatCommand::Kind::kClear:
      session_.clear();
      say(terminal_.dim("The conversation is forgotten.") + "\n");
      break;
    case ChatCommand::Kind::kSystem:
      change_system(command.argument);
      break;
    case ChatCommand::Kind::kSet:
      return change_setting(command.argument);
    case ChatCommand::Kind::kSave:
      YOKE_CHECK(save(session_, expand_home(command.argument)));
      say(terminal_.dim(fmt::format("Saved as {}.", command.argument)) + "\n");
      break;
    case ChatCommand::Kind::kStats:
      say(total_.describe() + "\n");
      break;
    case ChatCommand::Kind::kExit:
      break;
  }
  return {};
}

void Chat::change_system(const std::string& argument) {
  if (!argument.empty()) {
    session_.set_system(argument == "\"\"" ? "" : argument);
  }
  say(terminal_.dim(session_.system().empty() ? "No system prompt." : session_.system()) + "\n");
}

Result<void> Chat::change_setting(const std::string& argument) {
  if (argument.empty()) {
    say(session_.sampling().describe());
    return {};
  }
  const std::size_t blank = argument.find_first_of(" \t");
  if (blank == std::string::npos) {
    return fail(kInvalidArgument, "/set needs a name and a value.",
                "Such as: /set temperature 0.7");
  }
  const std::size_t value = argument.find_first_not_of(" \t", blank);
  return session_.sampling().set(argument.substr(0, blank), argument.substr(value));
}

void Chat::answer(std::string question) {
  const QuietInput quiet;
  interrupts_.forget();
  session_.ask(std::move(question));
  AnswerView view(stdout, terminal_);
  Answer answer = ask(client_, session_, view);
  session_.settle(std::move(answer.text));
  if (answer.begun) total_.add(answer.stats);
  if (answer.error && answer.error->code == kCancelled) {
    view.note("Stopped.");
  } else if (answer.error) {
    print_error(*answer.error);
  } else if (show_stats_) {
    view.note(answer.stats.describe());
  }
}

}  // namespace

Result<void> chat(const ServerClient& client, Interrupts& interrupts, ChatSession session,
                  bool show_stats) {
  // Now, rather than after the first question was typed.
  YOKE_TRY(const std::vector<std::string> known, known_models(client));
  if (std::find(known.begin(), known.end(), session.model()) == known.end()) {
    return fail(unknown_model(session.model(), known));
  }
  return Chat(client, interrupts, std::move(session), show_stats).run();
}

}  // namespace yoke::cli
