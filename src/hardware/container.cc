// In which kind of container this is, by the marks that each kind leaves.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>

#include <fmt/format.h>

#include "hardware/host_parts.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Every container engine mounts files of its own over these of the image.
bool is_engine_mount(const Mount& mount) {
  constexpr std::array<std::string_view, 3> kPoints{"/etc/hosts", "/etc/hostname",
                                                    "/etc/resolv.conf"};
  return std::ranges::count(kPoints, mount.point) > 0;
}

// The engine whose directory `path` lies in: where such mounts come from, or a cgroup's name.
std::string engine_of_path(std::string_view path) {
  if (contains(path, "kubepods") || contains(path, "/kubelet/")) return "kubernetes";
  if (contains(path, "/docker/containers/") || path.starts_with("/docker/") ||
      contains(path, "/docker-")) {
    return "docker";
  }
  if (contains(path, "/overlay-containers/") || contains(path, "libpod")) return "podman";
  if (path.starts_with("/lxc/") || contains(path, "/lxc.payload")) return "lxc";
  return {};
}

// /.dockerenv stays behind when an image is unpacked as the root of a virtual machine.
bool is_docker(const NotedFiles& files, const std::vector<Mount>& mounts) {
  if (!files.exists("/.dockerenv")) return false;
  const auto is_mark = [](const Mount& mount) {
    return is_engine_mount(mount) ||
           (mount.point == "/" && (contains(mount.type, "overlay") || mount.type == "aufs"));
  };
  if (mounts.empty() || std::ranges::any_of(mounts, is_mark)) return true;
  files.note(
      "/.dockerenv exists, but nothing is mounted as Docker does it: taken for a machine whose "
      "root "
      "was made from an image.");
  return false;
}

// What systemd writes down for whom it runs under, and others hand to their first process.
std::string announced(const NotedFiles& files) {
  const auto is_kind = [](std::string_view text) {
    return !text.empty() && text.size() <= 32 &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_") ==
               std::string_view::npos;
  };
  if (const auto kind = files.line("/run/systemd/container"); kind && is_kind(*kind)) return *kind;
  // Readable for the owner of the first process only; for others there is nothing to be noted.
  const auto environment = files.read_if_allowed("/proc/1/environ", 256u << 10);
  std::string_view rest = environment ? std::string_view(*environment) : std::string_view();
  while (!rest.empty()) {
    std::string_view entry = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(entry.size() + 1, rest.size()));
    constexpr std::string_view kName = "container=";
    if (!entry.starts_with(kName)) continue;
    entry.remove_prefix(kName.size());
    if (is_kind(entry)) return std::string(entry);
  }
  return {};
}

std::string by_traces(const std::vector<Mount>& mounts, const std::vector<CgroupPath>& cgroups) {
  for (const CgroupPath& cgroup : cgroups) {
    if (std::string kind = engine_of_path(cgroup.path); !kind.empty()) return kind;
  }
  for (const Mount& mount : mounts) {
    if (mount.type == "fuse.lxcfs" && mount.point.starts_with("/proc/")) return "lxc";
    if (!is_engine_mount(mount)) continue;
    if (std::string kind = engine_of_path(mount.root); !kind.empty()) return kind;
  }
  return {};
}

}  // namespace

Container read_container(const NotedFiles& files, const std::vector<Mount>& mounts,
                         const std::vector<CgroupPath>& cgroups, bool real) {
  // Kubernetes first: its containers carry their engine's marks too.
  std::string traces = by_traces(mounts, cgroups);
  if (traces == "kubernetes" || files.exists("/run/secrets/kubernetes.io") ||
      (real && std::getenv("KUBERNETES_SERVICE_HOST") != nullptr)) {
    return {"kubernetes"};
  }
  if (std::string kind = announced(files); !kind.empty()) return {kind};
  if (files.exists("/run/.containerenv")) return {"podman"};
  if (is_docker(files, mounts)) return {"docker"};
  return {traces};
}

}  // namespace yoke::hardware
