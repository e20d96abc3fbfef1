// Where an engine is installed. Looks at files only; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"

namespace yoke::engines {

inline constexpr ErrorCode kEngineNotFound{"engine_not_found"};

struct EngineInstall {
  std::string name = "llama.cpp";
  std::string version{};  // "0.5.0"; empty if only the program itself knows.
  std::string backend{};  // "cpu"; empty for an engine that Yoke did not install.
  std::filesystem::path dir{};
  std::filesystem::path server{};  // The program, an absolute path.
};

// The llama-server to use: the one in the configuration, else the newest that is installed in
// base/paths.h's engine_dirs(), else the one on PATH. kEngineNotFound.
Result<EngineInstall> find_llama_cpp(const config::EnginesConfig& engines);

// The same, but of an installed engine every backend, each in the newest version that has it.
Result<std::vector<EngineInstall>> engines_of_each_backend(const config::EnginesConfig& engines);

// Every llama-server there is, the preferred first: the one in the configuration, then what
// list_llama_cpp finds in each of engine_dirs(), so the newest version first where they are in one
// place, then the one on PATH. Each program once. What can't be used is said in `problems`.
std::vector<EngineInstall> find_llama_cpp_installs(const config::EnginesConfig& engines,
                                                   std::vector<std::string>& problems);

// What lies under `engines_dir` as llama.cpp-<version>/<backend>/ with its engine.json, newest
// first. What can't be used is left out, and said in `problems`.
std::vector<EngineInstall> list_llama_cpp(const std::filesystem::path& engines_dir,
                                          std::vector<std::string>& problems);

}  // namespace yoke::engines
