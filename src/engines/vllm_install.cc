#include "engines/vllm_install.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <tuple>

#include <fmt/format.h>

#include "base/paths.h"
#include "engines/engine_dir.h"
#include "engines/vllm.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kProgram = "bin/vllm";
constexpr std::string_view kHelpFile = "vllm_help.txt";
constexpr std::size_t kMaxHelpBytes = 4u << 20;
constexpr std::string_view kHint =
    "Run `yoke engine install vllm`, or set vllm in [engines] to the program of an environment "
    "that has it.";

Result<EngineInstall> read_install(const fs::path& dir) {
  YOKE_TRY(EngineManifest manifest, read_manifest(dir));
  if (manifest.name != name_of(EngineKind::kVllm)) {
    return fail(kEngineNotFound, fmt::format("It is '{}', not vllm.", manifest.name));
  }
  EngineInstall install{.kind = EngineKind::kVllm,
                        .version = std::move(manifest.version),
                        .backend = std::move(manifest.backend),
                        .dir = fs::absolute(dir)};
  install.server = install.dir / kProgram;
  if (!is_program(install.server)) {
    return fail(kEngineNotFound, fmt::format("It has no program {}.", kProgram));
  }
  return install;
}

// "0.20.1+rocm712" of a vllm-0.20.1+rocm712.dist-info in the environment; empty if there is none.
std::string distribution_version(const fs::path& environment) {
  constexpr std::string_view kPrefix = "vllm-";
  constexpr std::string_view kSuffix = ".dist-info";
  for (const fs::path& python : subdirectories(environment / "lib")) {
    for (const char* packages : {"site-packages", "dist-packages"}) {
      for (const fs::path& dir : subdirectories(python / packages)) {
        const std::string name = dir.filename().string();
        if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) continue;
        return name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
      }
    }
  }
  return {};
}

// PyPI's builds are for CUDA; the others carry their backend in the version.
std::string backend_of(std::string_view version) {
  if (version.empty()) return {};
  if (version.find("cpu") != std::string_view::npos) return "cpu";
  return version.find("rocm") != std::string_view::npos ? "rocm" : "cuda";
}

EngineInstall foreign_install(const fs::path& program) {
  const fs::path server = fs::absolute(program).lexically_normal();
  // A link in a directory of PATH leads to the environment.
  std::error_code error;
  fs::path real = fs::canonical(server, error);
  if (error) real = server;
  const fs::path environment = real.parent_path().parent_path();
  if (auto own = read_install(environment)) return *own;
  std::string version = distribution_version(environment);
  std::string backend = backend_of(version);
  return EngineInstall{.kind = EngineKind::kVllm,
                       .version = version.substr(0, version.find('+')),
                       .backend = std::move(backend),
                       .dir = environment,
                       .server = server};
}

Result<EngineInstall> configured_install(const fs::path& program) {
  constexpr std::string_view kKey = "vllm in [engines]";
  std::error_code error;
  if (fs::is_directory(program, error)) {
    return fail(kEngineNotFound, fmt::format("{} is the directory {}.", kKey, program.string()),
                "Name the program, which is bin/vllm in an environment.");
  }
  if (!fs::exists(program, error)) {
    return fail(kEngineNotFound,
                fmt::format("{} is {}, which does not exist.", kKey, program.string()),
                "Correct the path, or remove it and run `yoke engine install vllm`.");
  }
  if (!is_program(program)) {
    return fail(kEngineNotFound,
                fmt::format("{} is {}, which can't be executed.", kKey, program.string()),
                "Name a vllm program that this user may run.");
  }
  return foreign_install(program);
}

// Of one version that for a GPU comes first: nobody installs it without having one.
bool comes_before(const EngineInstall& a, const EngineInstall& b) {
  const auto key = [](const EngineInstall& install) {
    return std::tuple(version_numbers(install.version), install.backend != "cpu");
  };
  return key(a) > key(b);
}

std::vector<EngineInstall> list_vllm(const fs::path& engines_dir,
                                     std::vector<std::string>& problems) {
  std::vector<EngineInstall> found;
  for (const fs::path& release : subdirectories(engines_dir)) {
    if (!release.filename().string().starts_with("vllm-")) continue;
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

}  // namespace

std::vector<EngineInstall> find_vllm_installs(const config::EnginesConfig& engines,
                                              std::vector<std::string>& problems) {
  std::vector<EngineInstall> found;
  std::set<fs::path> programs;
  const auto add = [&](EngineInstall install) {
    std::error_code error;
    fs::path program = fs::canonical(install.server, error);
    if (error) program = install.server;
    if (programs.insert(std::move(program)).second) found.push_back(std::move(install));
  };
  if (engines.vllm) {
    if (auto install = configured_install(*engines.vllm)) {
      add(std::move(*install));
    } else {
      problems.push_back(install.error().message);
    }
  }
  for (const fs::path& dir : engine_dirs()) {
    for (EngineInstall& install : list_vllm(dir, problems)) add(std::move(install));
  }
  if (const fs::path program = program_on_path("vllm"); !program.empty()) {
    add(foreign_install(program));
  }
  return found;
}

Result<EngineInstall> find_vllm(const config::EnginesConfig& engines) {
  if (engines.vllm) return configured_install(*engines.vllm);
  std::vector<std::string> problems;
  std::vector<EngineInstall> installs = find_vllm_installs(engines, problems);
  if (!installs.empty()) return std::move(installs.front());
  std::string message = "No vLLM is installed, and the model is in HuggingFace format.";
  for (const std::string& problem : problems) message += " " + problem;
  return fail(kEngineNotFound, std::move(message), std::string(kHint));
}

Result<Capabilities> stored_capabilities(const EngineInstall& install) {
  std::ifstream in(install.dir / kHelpFile, std::ios::binary);
  if (!in) {
    return fail(kEngineNotFound, fmt::format("{} has no {}.", install.dir.string(), kHelpFile));
  }
  std::string help(kMaxHelpBytes, '\0');
  in.read(help.data(), static_cast<std::streamsize>(help.size()));
  help.resize(static_cast<std::size_t>(in.gcount()));
  return parse_vllm_help(install.version, help);
}

}  // namespace yoke::engines
