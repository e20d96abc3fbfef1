// CommandLine: how a program is started. A plain value; any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace yoke::engines {

struct CommandLine {
  std::vector<std::string> argv;                         // argv[0] is the program's path.
  std::vector<std::pair<std::string, std::string>> env;  // To be set besides what is inherited.
  std::vector<std::string> notes;  // Options that were left out and why, for the log.
};

}  // namespace yoke::engines
