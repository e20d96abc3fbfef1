#include "cli/confirm.h"

#include <cstdio>
#include <iostream>
#include <string>
#include <unistd.h>

#include <fmt/format.h>

#include "cli/answer_view.h"
#include "cli/exit_code.h"

namespace yoke::cli {

Result<bool> confirm(std::string_view question) {
  if (::isatty(STDIN_FILENO) != 1) {
    return fail(kUsage, "There is no terminal to ask on.", "With --yes it does not ask.");
  }
  const std::string text = fmt::format("{} [y/N] ", question);
  std::fwrite(text.data(), 1, text.size(), stdout);
  YOKE_CHECK(flush_stdout());
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

}  // namespace yoke::cli
