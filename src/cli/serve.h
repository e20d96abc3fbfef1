// `yoke serve`: puts the parts together, runs until a signal, and takes them apart again.
#pragma once

#include <string>

#include "base/result.h"

namespace yoke::cli {

struct ServeOptions {
  std::string config_file;  // Empty: $XDG_CONFIG_HOME/yoke/yoke.toml.
  std::string log_level;    // Empty: the configuration's.
  std::string listen;       // Empty: the configuration's.
};

// Blocks until SIGINT or SIGTERM; a second one cuts short what is still being answered.
Result<void> serve(const ServeOptions& options);

}  // namespace yoke::cli
