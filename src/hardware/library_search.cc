#include "hardware/library_search.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <sys/utsname.h>

#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostCandidates = 8;
constexpr std::size_t kMostEntries = 65'536;
constexpr std::size_t kMostDirectories = 256;

// The names in a directory that `wanted` accepts; none if it can't be read.
std::vector<std::string> names_in(const fs::path& directory,
                                  const std::function<bool(std::string_view)>& wanted) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (std::size_t count = 0; !error && entry != fs::directory_iterator() && count < kMostEntries;
       ++count) {
    if (auto name = entry->path().filename().native(); wanted(name)) names.push_back(name);
    entry.increment(error);
  }
  return names;
}

using Version = std::vector<std::uint64_t>;

// {26, 1} of "libamd_smi.so.26.1", {} of "libamd_smi.so", nothing of any other name.
std::optional<Version> version_of(std::string_view name, std::string_view library) {
  if (!name.starts_with(library)) return std::nullopt;
  name.remove_prefix(library.size());
  Version version;
  while (!name.empty()) {
    if (name.front() != '.') return std::nullopt;
    const std::string_view digits = name.substr(1, name.find('.', 1) - 1);
    const auto number = parse_digits(digits, 10);
    if (!number) return std::nullopt;
    version.push_back(*number);
    name.remove_prefix(digits.size() + 1);
  }
  return version;
}

// The ABI is in the name for good: libcuda.so.1. Other numbers are the driver's, and files of
// drivers that were removed may be left behind.
bool has_one_abi(Source source) {
  return source == Source::kNvml || source == Source::kCuda || source == Source::kVulkan;
}

std::vector<std::string> candidates_in(const fs::path& directory, Source source) {
  const std::string_view library = library_of(source);
  if (has_one_abi(source)) return {std::string(library) + ".1", std::string(library)};
  auto names = names_in(directory, [library](std::string_view name) {
    return version_of(name, library).has_value();
  });
  std::ranges::sort(names, std::ranges::greater(),
                    [library](const std::string& name) { return *version_of(name, library); });
  return names;
}

void add_directory(std::vector<fs::path>& directories, const fs::path& directory) {
  if (!directory.is_absolute() || directories.size() >= kMostDirectories) return;
  if (std::ranges::find(directories, directory) == directories.end()) {
    directories.push_back(directory);
  }
}

// The lines of ld.so.conf that name a directory.
void add_configured(std::vector<fs::path>& directories, const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return;
  std::string text(64u << 10, '\0');
  std::ifstream stream(file, std::ios::binary);
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = trim(take_line(rest));
    if (line.starts_with('/')) add_directory(directories, trim(line.substr(0, line.find('#'))));
  }
}

void add_linker_directories(std::vector<fs::path>& directories) {
  add_configured(directories, "/etc/ld.so.conf");
  auto files =
      names_in("/etc/ld.so.conf.d", [](std::string_view name) { return name.ends_with(".conf"); });
  std::ranges::sort(files);
  for (const auto& file : files) add_configured(directories, fs::path("/etc/ld.so.conf.d") / file);
}

void add_rocm_directories(std::vector<fs::path>& directories) {
  add_directory(directories, "/opt/rocm/lib");
  auto versions = names_in("/opt", [](std::string_view name) { return name.starts_with("rocm-"); });
  std::ranges::sort(versions, std::ranges::greater());
  for (const auto& version : versions)
    add_directory(directories, fs::path("/opt") / version / "lib");
}

}  // namespace

std::string_view library_of(Source source) {
  switch (source) {
    case Source::kAmdSmi:
      return "libamd_smi.so";
    case Source::kNvml:
      return "libnvidia-ml.so";
    case Source::kHip:
      return "libamdhip64.so";
    case Source::kCuda:
      return "libcuda.so";
    case Source::kVulkan:
      return "libvulkan.so";
    case Source::kKfd:
    case Source::kDrm:
      break;
  }
  return {};
}

std::vector<fs::path> find_libraries(Source source, const std::vector<fs::path>& directories) {
  std::vector<fs::path> found;
  std::vector<fs::path> files;  // What the links lead to.
  if (library_of(source).empty()) return found;
  for (const auto& directory : directories) {
    for (const auto& name : candidates_in(directory, source)) {
      const fs::path path = directory / name;
      std::error_code error;
      if (!fs::is_regular_file(path, error)) continue;
      const fs::path file = fs::canonical(path, error);
      if (error || std::ranges::find(files, file) != files.end()) continue;
      if (found.size() == kMostCandidates) return found;
      files.push_back(file);
      found.push_back(path);
    }
  }
  return found;
}

std::vector<fs::path> system_library_directories() {
  std::vector<fs::path> directories;
  if (const char* const listed = std::getenv("LD_LIBRARY_PATH")) {
    for (std::string_view rest = listed; !rest.empty();) {
      const std::string_view one = rest.substr(0, rest.find(':'));
      rest.remove_prefix(std::min(one.size() + 1, rest.size()));
      add_directory(directories, one);
    }
  }
  // WSL and NixOS hand the driver in from outside; what is elsewhere is not the kernel's.
  add_directory(directories, "/usr/lib/wsl/lib");
  add_directory(directories, "/run/opengl-driver/lib");
  add_linker_directories(directories);
  utsname system{};
  if (::uname(&system) == 0) {
    const std::string multiarch = std::string(system.machine) + "-linux-gnu";
    add_directory(directories, "/lib/" + multiarch);
    add_directory(directories, "/usr/lib/" + multiarch);
  }
  for (const char* const directory :
       {"/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib64", "/usr/local/lib"}) {
    add_directory(directories, directory);
  }
  add_rocm_directories(directories);
  return directories;
}

}  // namespace yoke::hardware
