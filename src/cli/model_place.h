// Which directory of models a command is about. Main thread only.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "config/config.h"

namespace yoke::cli {

struct ModelPlace {
  std::string config_file{};  // Empty: yoke.toml in base/paths.h's config_dir(), if there is one.
  std::string model_dir{};    // --models; empty: the configuration's.
};

// The configuration with `model_dir` in it, absolute; the defaults if there is no file and none was
// named. What config::load_config reports of a file that is there.
Result<config::Config> config_of(const ModelPlace& place);

// "~/models/a.gguf" for what lies in the home directory; safe to print.
std::string short_path(const std::filesystem::path& path);

}  // namespace yoke::cli
