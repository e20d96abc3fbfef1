// `yoke engine`: which engines there are, and whether they work here. Main thread only.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "base/result.h"
#include "cli/terminal.h"
#include "engines/devices.h"
#include "engines/install.h"

namespace yoke::cli {

// Every engine was tried, and none can be used as what it is.
inline constexpr ErrorCode kNoEngineWorks{"no_engine_works"};

struct EngineCommandOptions {
  std::string config_file{};  // Empty: yoke.toml in base/paths.h's config_dir(), if there is one.
  bool json = false;
};

// Looks at files only. What config::load_config reports of a file that is there.
Result<void> engine_list(const EngineCommandOptions& options);

// Runs each engine, for ten seconds at most at a time; vLLM for a minute. kNoEngineWorks,
// engines::kEngineNotFound, and as engine_list.
Result<void> engine_check(const EngineCommandOptions& options);

enum class EngineState {
  kOk,
  kNoDevice,  // It runs, but finds no device of its backend, and would compute on the CPU.
  kFailed,
};
std::string_view name_of(EngineState state);  // "ok", "no_device", "failed"

// What an engine said when it was run.
struct EngineCheck {
  engines::EngineInstall install;
  std::string version{};  // As it calls itself; empty if it said nothing.
  std::vector<engines::EngineDevice> devices{};
  std::optional<Error> error{};  // Why it can't be used.
  EngineState state() const;
};

std::string format_engines(const std::vector<engines::EngineInstall>& installs,
                           const std::vector<std::string>& problems, const Terminal& terminal);
boost::json::object to_json(const engines::EngineInstall& install);

// A paragraph that says what the engine said, or what is wrong with it and what to do.
std::string format_check(const EngineCheck& check, const Terminal& terminal);
boost::json::object to_json(const EngineCheck& check);

}  // namespace yoke::cli
