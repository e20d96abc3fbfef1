// What one configuration changes about another, beside its models. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace yoke::config {

// Keys as the file has them: "[server] listen"; of [groups] only that.
struct ConfigChanges {
  std::vector<std::string> taken_over;     // A running Yoke can take them over.
  std::vector<std::string> needs_restart;  // They count when `yoke serve` is started again.
};

ConfigChanges compare(const Config& running, const Config& next);

// Puts the running values into `next` where only a start takes other ones: what is in force then.
void keep_until_restart(const Config& running, Config& next);

}  // namespace yoke::config
