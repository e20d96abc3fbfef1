// Capabilities: what a llama-server can do, from what it says about itself. Flags come and go from
// one release to the next, so a command line is built only from those it has. Pure; any thread.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::engines {

// A program that Yoke can't use as the engine it is meant to be.
inline constexpr ErrorCode kEngineUnusable{"engine_unusable"};

struct Capabilities {
  std::string version;  // "0.5.0 (build 1, commit de3ff81)", as the engine writes it.
  std::set<std::string, std::less<>> flags;   // All spellings: "-m", "--model".
  std::set<std::string, std::less<>> valued;  // Those of `flags` that are followed by a value.
  // The GPUs that it sees, by their names for --device; empty where it was not asked.
  std::vector<std::string> devices{};
  // The values that the help lists one by one, each as "--flag=value".
  std::set<std::string, std::less<>> choices;

  bool has(std::string_view flag) const { return flags.contains(flag); }
  bool takes_value(std::string_view flag) const { return valued.contains(flag); }
  bool offers(std::string_view flag, std::string_view value) const {
    return choices.contains(std::string(flag).append("=").append(value));
  }
};

// From all that `--version` and `--help` print. kEngineUnusable if there are no flags in it.
Result<Capabilities> parse_capabilities(std::string_view version_output,
                                        std::string_view help_output);

}  // namespace yoke::engines
