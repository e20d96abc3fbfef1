#include "doctor/cuda_libraries.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "doctor/text.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

using hardware::HostFiles;

// Those that llama.cpp's modules are built for.
constexpr std::array kVersions{13, 12};
constexpr std::string_view kLinkerFiles = "/etc/ld.so.conf.d";

std::vector<std::string> linker_directories(const HostFiles& files) {
  std::vector<std::string> directories{
      "/usr/lib",       "/usr/lib64",      "/usr/lib/x86_64-linux-gnu",
      "/lib",           "/lib64",          "/usr/lib/aarch64-linux-gnu",
      "/usr/local/lib", "/usr/local/lib64"};
  std::string text = files.read("/etc/ld.so.conf").value_or("");
  for (const std::string& name : files.list(kLinkerFiles).value_or(std::vector<std::string>{})) {
    if (!name.ends_with(".conf")) continue;
    const auto file = files.read(fmt::format("{}/{}", kLinkerFiles, name));
    if (file) text += fmt::format("\n{}", *file);
  }
  for (const std::string_view line : lines_of(text)) {
    if (line.starts_with('/')) directories.emplace_back(hardware::trim(line));
  }
  return directories;
}

// Where NVIDIA's packages put them.
std::vector<std::string> toolkit_directories(const HostFiles& files) {
  std::vector<std::string> directories;
  for (const std::string& name : files.list("/usr/local").value_or(std::vector<std::string>{})) {
    if (name.starts_with("cuda")) directories.push_back(fmt::format("/usr/local/{}/lib64", name));
  }
  return directories;
}

bool has_libraries(const HostFiles& files, const std::string& directory, int version) {
  return files.exists(fmt::format("{}/libcudart.so.{}", directory, version)) &&
         files.exists(fmt::format("{}/libcublas.so.{}", directory, version));
}

}  // namespace

CudaLibraries read_cuda_libraries(const HostFiles& files) {
  CudaLibraries found;
  const auto linked = linker_directories(files);
  for (const int version : kVersions) {
    const auto has = [&](const std::string& directory) {
      return has_libraries(files, directory, version);
    };
    if (std::ranges::any_of(linked, has)) found.versions.push_back(version);
    if (!found.unlinked_dir.empty()) continue;
    const auto unlinked = toolkit_directories(files);
    const auto place = std::ranges::find_if(unlinked, has);
    if (place != unlinked.end()) found.unlinked_dir = *place;
  }
  if (!found.versions.empty()) found.unlinked_dir.clear();
  return found;
}

}  // namespace yoke::doctor
