#include <algorithm>

#include <fmt/format.h>

#include "hardware/backend_verdicts.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

// /opt/rocm, /opt/rocm-7.0.2 and so on; the plain name is the one in use.
std::vector<std::string> rocm_dirs(const HostFiles& files) {
  std::vector<std::string> dirs;
  const auto names = files.list("/opt");
  if (!names) return dirs;
  for (const std::string& name : *names) {
    if (name == "rocm" || name.starts_with("rocm-")) dirs.push_back("/opt/" + name);
  }
  return dirs;
}

std::vector<std::string> library_dirs(const HostFiles& files) {
  std::vector<std::string> dirs{"/usr/lib",
                                "/usr/lib64",
                                "/usr/lib/x86_64-linux-gnu",
                                "/usr/lib/aarch64-linux-gnu",
                                "/usr/local/lib",
                                "/usr/local/lib64",
                                "/usr/lib/wsl/lib"};
  for (const std::string& rocm : rocm_dirs(files)) {
    dirs.push_back(rocm + "/lib");
    dirs.push_back(rocm + "/lib64");
  }
  return dirs;
}

bool exists_in(const HostFiles& files, const std::vector<std::string>& dirs,
               std::string_view name) {
  return std::any_of(dirs.begin(), dirs.end(), [&](const std::string& dir) {
    return files.exists(fmt::format("{}/{}", dir, name));
  });
}

// Where rocBLAS keeps its kernels; Debian puts its version in between.
std::vector<std::string> rocblas_dirs(const HostFiles& files,
                                      const std::vector<std::string>& libraries) {
  std::vector<std::string> dirs;
  for (const std::string& library : libraries) {
    const std::string base = library + "/rocblas";
    const auto names = files.list(base);
    if (!names) continue;
    for (const std::string& name : *names) {
      dirs.push_back(name == "library" ? base + "/library"
                                       : fmt::format("{}/{}/library", base, name));
    }
  }
  std::erase_if(dirs, [&](const std::string& dir) { return !files.exists(dir); });
  return dirs;
}

std::vector<std::string> vulkan_icds(const HostFiles& files) {
  std::vector<std::string> icds;
  for (const std::string_view dir :
       {"/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d"}) {
    const auto names = files.list(dir);
    if (!names) continue;
    for (const std::string& name : *names) {
      if (name.ends_with(".json")) icds.push_back(printable(name));
    }
  }
  return icds;
}

std::string rocm_version(const HostFiles& files) {
  for (const std::string& dir : rocm_dirs(files)) {
    if (const auto version = files.read_line(dir + "/.info/version")) {
      return printable(version->substr(0, version->find('-')));
    }
  }
  return "";
}

bool kfd_knows_cwsr_size(const HostFiles& files) {
  const std::string nodes = "/sys/class/kfd/kfd/topology/nodes";
  const auto names = files.list(nodes);
  if (!names) return false;
  return std::any_of(names->begin(), names->end(), [&](const std::string& name) {
    const auto properties = files.read(fmt::format("{}/{}/properties", nodes, name));
    return properties && properties->find("\ncwsr_size ") != std::string::npos;
  });
}

bool cwsr_disabled(const HostFiles& files) {
  const auto value = files.read_number("/sys/module/amdgpu/parameters/cwsr_enable");
  return value && *value == 0;
}

}  // namespace

InstalledFiles read_installed_files(const HostFiles& files, const std::vector<Device>& devices) {
  const std::vector<std::string> libraries = library_dirs(files);
  const auto installed = [&](std::string_view name) { return exists_in(files, libraries, name); };
  InstalledFiles found;
  found.vulkan_icds = vulkan_icds(files);
  found.hip_runtime =
      installed("libamdhip64.so") || installed("libamdhip64.so.7") || installed("libamdhip64.so.6");
  const std::vector<std::string> kernels = rocblas_dirs(files, libraries);
  found.rocblas = !kernels.empty();
  for (const Device& device : devices) {
    if (!device.gfx) continue;
    const std::string& gfx = device.gfx->value;
    const std::string name = fmt::format("TensileLibrary_lazy_{}.dat", gfx);
    if (exists_in(files, kernels, name)) found.rocblas_gfx.push_back(gfx);
  }
  found.rocm_version = rocm_version(files);
  found.kfd_knows_cwsr_size = kfd_knows_cwsr_size(files);
  found.cwsr_disabled = cwsr_disabled(files);
  found.nodes = read_device_nodes(files, devices);
  return found;
}

}  // namespace yoke::hardware
