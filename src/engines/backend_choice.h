// Which of the installed engines a model is tried with, in which order, and why the others are not.
// Pure; any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "engines/install.h"
#include "hardware/machine.h"

namespace yoke::engines {

struct Candidate {
  EngineInstall install;
  std::vector<std::pair<std::string, std::string>> env;  // That this backend needs.
};

struct RuledOut {
  std::string backend;
  std::string why;  // One sentence.
};

struct BackendChoice {
  std::vector<Candidate> candidates;  // Best first.
  std::vector<RuledOut> ruled_out;
};

// `installs` are of one release, or the one program that the configuration names, which is then the
// only candidate. `machine` is null where no device was looked for: then only the CPU is taken, or
// what the model's options name.
BackendChoice choose_backends(const std::vector<EngineInstall>& installs,
                              const hardware::Machine* machine,
                              const config::EnginesConfig& engines,
                              const config::LoadOptions& options);

// Whether choose_backends() needs to know the devices.
bool needs_devices(const std::vector<EngineInstall>& installs, const config::LoadOptions& options);

}  // namespace yoke::engines
