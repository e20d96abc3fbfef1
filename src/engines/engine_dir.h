// What the search for engines of every kind shares: directories <name>-<version>/<backend>/ with an
// engine.json, and programs on PATH. Looks at files only; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::engines {

// A regular file that this user may run.
bool is_program(const std::filesystem::path& path);

// Sorted; without those that begin with a dot, which are unfinished.
std::vector<std::filesystem::path> subdirectories(const std::filesystem::path& dir);

// The numbers of "0.5.0"; what is no number ends them.
std::vector<int> version_numbers(std::string_view version);

// The first of that name on PATH; empty if there is none. Not from the working directory.
std::filesystem::path program_on_path(std::string_view name);

// What engine.json says.
struct EngineManifest {
  std::string name;
  std::string version;
  std::string backend;
  std::string program;  // Relative to the directory; empty: where the engine's kind has it.
};

// kEngineNotFound if there is none; what parse_json and JsonFields report.
Result<EngineManifest> read_manifest(const std::filesystem::path& dir);

}  // namespace yoke::engines
