#include "engines/install.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unistd.h>

#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/paths.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kName = "llama.cpp";
constexpr std::string_view kProgram = "llama-server";
constexpr std::string_view kHint =
    "Run `make engine` to build one, or set llama_server in [engines] to a program you have.";

bool is_program(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

// The numbers of "0.5.0"; what is no number ends them.
std::vector<int> version_numbers(std::string_view version) {
  std::vector<int> numbers;
  while (true) {
    int number = 0;
    const auto [end, error] =
        std::from_chars(version.data(), version.data() + version.size(), number);
    if (error != std::errc()) return numbers;
    numbers.push_back(number);
    version.remove_prefix(static_cast<std::size_t>(end - version.data()));
    if (!version.starts_with('.')) return numbers;
    version.remove_prefix(1);
  }
}

// Of one version the CPU build comes first.
bool comes_before(const EngineInstall& a, const EngineInstall& b) {
  const auto key = [](const EngineInstall& install) {
    return std::tuple(version_numbers(install.version), install.backend == "cpu");
  };
  return key(a) > key(b);
}

std::vector<fs::path> subdirectories(const fs::path& dir) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    const bool unfinished = it->path().filename().string().starts_with('.');
    if (!unfinished && it->is_directory(ignored)) found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

Result<EngineInstall> read_install(const fs::path& dir) {
  std::ifstream in(dir / "engine.json", std::ios::binary);
  if (!in) return fail(kEngineNotFound, "It has no engine.json.");
  const std::string text(std::istreambuf_iterator<char>(in), {});
  YOKE_TRY(const auto document, parse_json(text));
  YOKE_TRY(const auto fields, JsonFields::of(document));
  EngineInstall install;
  YOKE_TRY(install.name, fields.string("name"));
  YOKE_TRY(install.version, fields.string("version"));
  YOKE_TRY(install.backend, fields.string("backend"));
  install.dir = fs::absolute(dir);
  install.server = install.dir / kProgram;
  if (install.name != kName) {
    return fail(kEngineNotFound, fmt::format("It is '{}', not {}.", install.name, kName));
  }
  if (!is_program(install.server)) {
    return fail(kEngineNotFound, fmt::format("It has no program {}.", kProgram));
  }
  return install;
}

EngineInstall foreign_install(const fs::path& program) {
  const fs::path server = fs::absolute(program).lexically_normal();
  // An engine that Yoke installed says what it is also when it is named by its path.
  if (auto own = read_install(server.parent_path()); own && own->server == server) return *own;
  return EngineInstall{.dir = server.parent_path(), .server = server};
}

Result<EngineInstall> configured_install(const fs::path& program) {
  constexpr std::string_view kKey = "llama_server in [engines]";
  std::error_code error;
  if (fs::is_directory(program, error)) {
    return fail(kEngineNotFound, fmt::format("{} is the directory {}.", kKey, program.string()),
                "Name the llama-server program in it.");
  }
  if (!fs::exists(program, error)) {
    return fail(kEngineNotFound,
                fmt::format("{} is {}, which does not exist.", kKey, program.string()),
                "Correct the path, or remove it and run `make engine`.");
  }
  if (!is_program(program)) {
    return fail(kEngineNotFound,
                fmt::format("{} is {}, which can't be executed.", kKey, program.string()),
                "Name a llama-server program that this user may run.");
  }
  return foreign_install(program);
}

// The first of that name on PATH; empty if there is none.
fs::path program_on_path(std::string_view name) {
  const char* value = std::getenv("PATH");
  std::string_view path = value != nullptr ? value : "";
  while (!path.empty()) {
    const std::string_view dir = path.substr(0, path.find(':'));
    path.remove_prefix(std::min(path.size(), dir.size() + 1));
    // An empty entry means the working directory: programs are not taken from there.
    if (!dir.starts_with('/')) continue;
    if (fs::path program = fs::path(dir) / name; is_program(program)) return program;
  }
  return {};
}

}  // namespace

std::vector<EngineInstall> list_llama_cpp(const fs::path& engines_dir,
                                          std::vector<std::string>& problems) {
  std::vector<EngineInstall> found;
  for (const fs::path& release : subdirectories(engines_dir)) {
    if (!release.filename().string().starts_with("llama.cpp-")) continue;
    for (const fs::path& backend : subdirectories(release)) {
      if (auto install = read_install(backend)) {
        found.push_back(std::move(*install));
      } else {
        problems.push_back(fmt::format("The engine in {} is incomplete: {}", backend.string(),
                                       install.error().message));
      }
    }
  }
  std::stable_sort(found.begin(), found.end(), comes_before);
  return found;
}

std::vector<EngineInstall> find_llama_cpp_installs(const config::EnginesConfig& engines,
                                                   std::vector<std::string>& problems) {
  std::vector<EngineInstall> found;
  std::set<fs::path> programs;
  // By path: engines of several backends may share one file.
  const auto add = [&](EngineInstall install) {
    std::error_code error;
    fs::path program = fs::canonical(install.server, error);
    if (error) program = install.server;
    if (programs.insert(std::move(program)).second) found.push_back(std::move(install));
  };
  if (engines.llama_server) {
    if (auto install = configured_install(*engines.llama_server)) {
      add(std::move(*install));
    } else {
      problems.push_back(install.error().message);
    }
  }
  for (const fs::path& dir : engine_dirs()) {
    for (EngineInstall& install : list_llama_cpp(dir, problems)) add(std::move(install));
  }
  if (const fs::path program = program_on_path(kProgram); !program.empty()) {
    add(foreign_install(program));
  }
  return found;
}

Result<std::vector<EngineInstall>> engines_of_each_backend(const config::EnginesConfig& engines) {
  YOKE_TRY(EngineInstall preferred, find_llama_cpp(engines));
  std::vector<EngineInstall> chosen{std::move(preferred)};
  // One that Yoke did not install stands for itself, whatever else there is.
  if (engines.llama_server || chosen.front().backend.empty()) return chosen;
  std::vector<std::string> problems;
  for (EngineInstall& install : find_llama_cpp_installs(engines, problems)) {
    const bool known = std::ranges::any_of(
        chosen, [&](const EngineInstall& other) { return other.backend == install.backend; });
    if (!known && !install.backend.empty()) chosen.push_back(std::move(install));
  }
  return chosen;
}

Result<EngineInstall> find_llama_cpp(const config::EnginesConfig& engines) {
  if (engines.llama_server) return configured_install(*engines.llama_server);
  std::vector<std::string> problems;
  std::vector<EngineInstall> installs = find_llama_cpp_installs(engines, problems);
  if (!installs.empty()) return std::move(installs.front());
  std::string message = "No llama.cpp engine is installed.";
  for (const std::string& problem : problems) message += " " + problem;
  return fail(kEngineNotFound, std::move(message), std::string(kHint));
}

}  // namespace yoke::engines
