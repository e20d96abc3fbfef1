// What another configuration changed. Plain values; any thread.
#pragma once

#include <string>
#include <vector>

namespace yoke::supervisor {

// Names of models.
struct Reload {
  std::vector<std::string> added;
  std::vector<std::string> removed;
  std::vector<std::string> restarted;  // Their engines are, as soon as nothing is being answered.
  std::vector<std::string> changed;    // They run on with other settings.
};

}  // namespace yoke::supervisor
