#include "engines/install.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>
#include <system_error>
#include <tuple>

#include <fmt/format.h>

#include "base/paths.h"
#include "engines/engine_dir.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kProgram = "llama-server";
// In the names of system programs: llama-server-vulkan.
constexpr std::array<std::string_view, 4> kSystemBackends{"vulkan", "rocm", "cuda", "cpu"};
constexpr std::string_view kHint =
    "Run `make engine` to build one, or set llama_server in [engines] to a program you have.";

// Of one version the CPU build comes first.
bool comes_before(const EngineInstall& a, const EngineInstall& b) {
  const auto key = [](const EngineInstall& install) {
    return std::tuple(version_numbers(install.version), install.backend == "cpu");
  };
  return key(a) > key(b);
}

Result<EngineInstall> read_install(const fs::path& dir) {
  YOKE_TRY(EngineManifest manifest, read_manifest(dir));
  if (manifest.name != name_of(EngineKind::kLlamaCpp)) {
    return fail(kEngineNotFound,
                fmt::format("It is '{}', not {}.", manifest.name, name_of(EngineKind::kLlamaCpp)));
  }
  // Relative, as an engine can be moved. Those from an archive keep its layout.
  const fs::path program =
      manifest.program.empty() ? fs::path(kProgram) : fs::path(manifest.program);
  const bool outside = program.is_absolute() || std::ranges::find(program, "..") != program.end();
  if (outside) return fail(kEngineNotFound, "Its program lies elsewhere.");
  const fs::path home = fs::absolute(dir);
  if (!is_program(home / program)) {
    return fail(kEngineNotFound, fmt::format("It has no program {}.", program.string()));
  }
  return EngineInstall{.version = std::move(manifest.version),
                       .backend = std::move(manifest.backend),
                       .dir = home,
                       .server = home / program};
}

EngineInstall foreign_install(const fs::path& program, std::string_view backend) {
  const fs::path server = fs::absolute(program).lexically_normal();
  // An engine that Yoke installed says what it is also when it is named by its path.
  if (auto own = read_install(server.parent_path()); own && own->server == server) return *own;
  return EngineInstall{
      .backend = std::string(backend), .dir = server.parent_path(), .server = server};
}

Result<EngineInstall> configured_install(std::string_view name, const fs::path& program,
                                         std::string_view backend) {
  const std::string key = fmt::format("{} in [engines]", name);
  std::error_code error;
  if (fs::is_directory(program, error)) {
    return fail(kEngineNotFound, fmt::format("{} is the directory {}.", key, program.string()),
                "Name the llama-server program in it.");
  }
  if (!fs::exists(program, error)) {
    return fail(kEngineNotFound,
                fmt::format("{} is {}, which does not exist.", key, program.string()),
                "Correct the path, or remove it and run `make engine`.");
  }
  if (!is_program(program)) {
    return fail(kEngineNotFound,
                fmt::format("{} is {}, which can't be executed.", key, program.string()),
                "Name a llama-server program that this user may run.");
  }
  return foreign_install(program, backend);
}

// Those that the configuration names; the error of each that is none goes into `problems`.
std::vector<EngineInstall> configured_installs(const config::EnginesConfig& engines,
                                               std::vector<Error>& problems) {
  std::vector<EngineInstall> found;
  const auto add = [&](Result<EngineInstall> install) {
    if (install) {
      found.push_back(std::move(*install));
    } else {
      problems.push_back(std::move(install.error()));
    }
  };
  if (engines.llama_server) add(configured_install("llama_server", *engines.llama_server, ""));
  for (const auto& [backend, program] : engines.llama_servers) {
    add(configured_install(fmt::format("llama_server_{}", backend), program, backend));
  }
  return found;
}

// Each program once for a backend, and one of an unknown backend only if nothing else names it.
class Programs {
 public:
  void add(EngineInstall install) {
    std::error_code error;
    // By path: engines of several backends may share one file.
    fs::path program = fs::canonical(install.server, error);
    if (error) program = install.server;
    std::set<std::string>& backends = backends_[std::move(program)];
    const bool named = install.backend.empty() && !backends.empty();
    if (named || !backends.insert(install.backend).second) return;
    found_.push_back(std::move(install));
  }
  std::vector<EngineInstall> found() && { return std::move(found_); }

 private:
  std::map<fs::path, std::set<std::string>> backends_;
  std::vector<EngineInstall> found_;
};

}  // namespace

std::string_view name_of(EngineKind kind) {
  switch (kind) {
    case EngineKind::kLlamaCpp:
      return "llama.cpp";
    case EngineKind::kVllm:
      return "vllm";
  }
  return "unknown";
}

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
  Programs programs;
  std::vector<Error> refused;
  for (EngineInstall& install : configured_installs(engines, refused)) {
    programs.add(std::move(install));
  }
  for (Error& error : refused) problems.push_back(std::move(error.message));
  for (const fs::path& dir : engine_dirs()) {
    for (EngineInstall& install : list_llama_cpp(dir, problems)) programs.add(std::move(install));
  }
  for (const std::string_view backend : kSystemBackends) {
    const fs::path program = program_on_path(fmt::format("{}-{}", kProgram, backend));
    if (!program.empty()) programs.add(foreign_install(program, backend));
  }
  if (const fs::path program = program_on_path(kProgram); !program.empty()) {
    programs.add(foreign_install(program, ""));
  }
  return std::move(programs).found();
}

Result<std::vector<EngineInstall>> engines_of_each_backend(const config::EnginesConfig& engines) {
  YOKE_TRY(EngineInstall preferred, find_llama_cpp(engines));
  std::vector<EngineInstall> chosen{std::move(preferred)};
  if (engines.llama_server) return chosen;  // It stands for itself, whatever else there is.
  std::vector<std::string> problems;
  for (EngineInstall& install : find_llama_cpp_installs(engines, problems)) {
    const bool known = std::ranges::any_of(
        chosen, [&](const EngineInstall& other) { return other.backend == install.backend; });
    if (!known) chosen.push_back(std::move(install));
  }
  return chosen;
}

Result<EngineInstall> find_llama_cpp(const config::EnginesConfig& engines) {
  std::vector<Error> refused;
  configured_installs(engines, refused);
  if (!refused.empty()) return fail(std::move(refused.front()));
  std::vector<std::string> problems;
  std::vector<EngineInstall> installs = find_llama_cpp_installs(engines, problems);
  if (!installs.empty()) return std::move(installs.front());
  std::string message = "No llama.cpp engine is installed.";
  for (const std::string& problem : problems) message += " " + problem;
  return fail(kEngineNotFound, std::move(message), std::string(kHint));
}

}  // namespace yoke::engines
