// What a backend needs in the environment of its engine. Looks at Yoke's own environment, whose
// settings are left as they are, and at files; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "hardware/machine.h"

namespace yoke::engines {

struct BackendEnvironment {
  std::vector<std::pair<std::string, std::string>> variables;
  std::vector<std::string> notes;  // What the user should know; no failure.
};

// `machine` is null where no device was looked for. `root` stands for "/".
BackendEnvironment backend_environment(std::string_view backend, const hardware::Machine* machine,
                                       const config::EnginesConfig& engines,
                                       const std::filesystem::path& root = "/");

}  // namespace yoke::engines
