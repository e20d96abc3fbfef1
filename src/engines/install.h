// Where an engine is installed. Looks at files only; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"

namespace yoke::engines {

inline constexpr ErrorCode kEngineNotFound{"engine_not_found"};

enum class EngineKind { kLlamaCpp, kVllm };
// As directories and engine.json have it: "llama.cpp", "vllm".
std::string_view name_of(EngineKind kind);

struct EngineInstall {
  EngineKind kind = EngineKind::kLlamaCpp;
  std::string version{};  // "0.5.0"; empty if only the program itself knows.
  std::string backend{};  // "cpu"; empty if only the program itself knows.
  std::filesystem::path dir{};
  std::filesystem::path server{};  // The program, an absolute path.
};

// The first of find_llama_cpp_installs(). kEngineNotFound, also if what the configuration names is
// none.
Result<EngineInstall> find_llama_cpp(const config::EnginesConfig& engines);

// The one that `llama_server` of the configuration names, or of every backend the preferred one and
// last the llama-server on PATH, whose backend only the program knows. kEngineNotFound, also if
// what the configuration names is none.
Result<std::vector<EngineInstall>> engines_of_each_backend(const config::EnginesConfig& engines);

// Every llama-server there is, the preferred first: those in the configuration, then what
// list_llama_cpp finds in each of base/paths.h's engine_dirs(), so the newest version first where
// they are in one place, then the system's: llama-server-vulkan, -rocm, -cuda, -cpu and
// llama-server on PATH. Each program once. What can't be used is said in `problems`.
std::vector<EngineInstall> find_llama_cpp_installs(const config::EnginesConfig& engines,
                                                   std::vector<std::string>& problems);

// What lies under `engines_dir` as llama.cpp-<version>/<backend>/ with its engine.json, newest
// first. What can't be used is left out, and said in `problems`.
std::vector<EngineInstall> list_llama_cpp(const std::filesystem::path& engines_dir,
                                          std::vector<std::string>& problems);

}  // namespace yoke::engines
