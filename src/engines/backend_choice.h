// Which of the installed engines a model is tried with, in which order, and why the others are not.
// Looks at files for what the engines' environments need; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.h"
#include "engines/install.h"
#include "hardware/machine.h"

namespace yoke::engines {

struct Candidate {
  EngineInstall install;
  std::vector<std::pair<std::string, std::string>> env;  // That this backend needs.
  // What it computes with besides the engine: "RADV Mesa 25.2.1, Linux 6.18.9"; "" for the CPU.
  // When it changes, what is known about failures and answers of this backend is known no longer.
  std::string driver{};
  std::vector<std::string> notes{};  // What the user should know about it; no failure.
};

struct RuledOut {
  std::string backend;
  std::string why;  // One sentence.
};

struct BackendChoice {
  std::vector<Candidate> candidates;  // Best first.
  std::vector<RuledOut> ruled_out;
};

// `installs`: those of a backend in the order of preference; the one program that the configuration
// names is the only candidate. `machine` is null where no device was looked for: then only the CPU
// is taken, or what the model's options name. `root` stands for "/".
BackendChoice choose_backends(const std::vector<EngineInstall>& installs,
                              const hardware::Machine* machine,
                              const config::EnginesConfig& engines,
                              const config::LoadOptions& options,
                              const std::filesystem::path& root = "/");

// Candidate::driver of a backend. `machine` may be null.
std::string driver_of(const hardware::Machine* machine, std::string_view backend);

// What the order of the backends is by: one sentence. `machine` may be null.
std::string order_reason(EngineKind kind, const hardware::Machine* machine,
                         const config::LoadOptions& options);

// Whether choose_backends() needs to know the devices.
bool needs_devices(const std::vector<EngineInstall>& installs, const config::LoadOptions& options);

}  // namespace yoke::engines
