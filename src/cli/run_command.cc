#include "cli/run_command.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/ask.h"
#include "cli/chat.h"
#include "cli/exit_code.h"

namespace yoke::cli {
namespace {

constexpr std::size_t kMaxPromptBytes = 64u << 20;

Result<std::string> read_stdin() {
  std::string text;
  char piece[65536];
  ssize_t got;
  while ((got = ::read(STDIN_FILENO, piece, sizeof piece)) > 0) {
    text.append(piece, static_cast<std::size_t>(got));
    if (text.size() > kMaxPromptBytes) {
      return fail(kInvalidArgument, "Standard input is too long for a prompt.");
    }
  }
  if (got < 0) {
    return fail(kIo, fmt::format("Cannot read standard input: {}.", std::strerror(errno)));
  }
  text.erase(text.find_last_not_of('\n') + 1);
  return text;
}

// The words, with standard input where it was asked for or where there are none.
Result<std::string> whole_prompt(std::vector<std::string> words) {
  if (words.empty()) words.push_back("-");
  const auto dash = std::find(words.begin(), words.end(), "-");
  if (dash != words.end()) {
    YOKE_TRY(*dash, read_stdin());
  }
  std::string prompt = fmt::format("{}", fmt::join(words, " "));
  if (prompt.find_first_not_of(" \t\n") == std::string::npos) {
    return fail(kUsage, "The prompt is empty.", "Give one: yoke run MODEL PROMPT");
  }
  return prompt;
}

Result<void> answer_once(const ServerClient& client, ChatSession session, std::string prompt,
                         bool show_stats) {
  session.ask(std::move(prompt));
  AnswerView view(stdout, Terminal::of(stdout));
  const Answer answer = ask(client, session, view);
  if (answer.error) return fail(*answer.error);
  YOKE_CHECK(flush_stdout());
  const Terminal messages = Terminal::of(stderr);
  if (show_stats && messages.tty && Terminal::of(stdout).tty) {
    std::fprintf(stderr, "%s\n", messages.dim(answer.stats.describe()).c_str());
  }
  return {};
}

}  // namespace

Result<void> run_command(const RunOptions& options) {
  ChatSession session(options.model, options.system, options.sampling);
  const bool converse = options.prompt.empty() && ::isatty(STDIN_FILENO) == 1;
  if (converse && ::isatty(STDOUT_FILENO) != 1) {
    return fail(kUsage, "A conversation needs a terminal, and standard output is none.",
                "Give a prompt: yoke run MODEL PROMPT");
  }
  std::string prompt;
  if (!converse) {
    // Before Ctrl-C is taken over: nothing that reads here would listen to it.
    YOKE_TRY(prompt, whole_prompt(options.prompt));
  }
  Interrupts interrupts;
  YOKE_TRY(const ServerClient client, ServerClient::create(options.connect, &interrupts));
  if (converse) return chat(client, interrupts, std::move(session), !options.no_stats);
  return answer_once(client, std::move(session), std::move(prompt), !options.no_stats);
}

}  // namespace yoke::cli
