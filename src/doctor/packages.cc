#include "doctor/packages.h"

#include <fmt/format.h>

#include "doctor/text.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

// A desktop's dpkg status has 5 to 10 MB.
constexpr std::size_t kDatabaseLimit = 64u << 20;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::optional<Package> find_dpkg(std::string_view status, std::string_view name) {
  const std::string line = fmt::format("Package: {}\n", name);
  for (std::size_t at = status.find(line); at != std::string_view::npos;
       at = status.find(line, at + 1)) {
    if (at != 0 && status[at - 1] != '\n') continue;
    const std::string_view stanza = status.substr(at, status.find("\n\n", at) - at);
    const auto state = hardware::field(stanza, "Status", ':');
    const auto version = hardware::field(stanza, "Version", ':');
    if (!state || !version || !state->ends_with(" installed")) continue;
    return Package{std::string(name), hardware::printable(*version)};
  }
  return std::nullopt;
}

// A directory "linux-firmware-20251125-2" for each package.
std::optional<Package> find_pacman(const std::vector<std::string>& directories,
                                   std::string_view name) {
  for (const std::string& directory : directories) {
    if (!directory.starts_with(name) || directory.size() <= name.size() + 1) continue;
    const std::string_view version = std::string_view(directory).substr(name.size() + 1);
    if (directory[name.size()] != '-' || !is_digit(version.front())) continue;
    return Package{std::string(name), hardware::printable(version)};
  }
  return std::nullopt;
}

// "amd-gpu-firmware-0:20251125-1.fc43.noarch" with or without the epoch.
std::optional<Package> find_dnf(std::string_view nevras, std::string_view name) {
  const std::string start = fmt::format("\"{}-", name);
  for (std::size_t at = nevras.find(start); at != std::string_view::npos;
       at = nevras.find(start, at + 1)) {
    std::string_view version = nevras.substr(at + start.size());
    version = version.substr(0, version.find('"'));
    if (version.starts_with("0:")) version.remove_prefix(2);
    if (version.empty() || !is_digit(version.front())) continue;
    return Package{std::string(name), hardware::printable(version.substr(0, version.rfind('.')))};
  }
  return std::nullopt;
}

template <class Database, class Find>
std::optional<Package> find_any(const Database& database,
                                const std::vector<std::string_view>& names, Find find) {
  for (const std::string_view name : names) {
    if (auto package = find(database, name)) return package;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Package> find_package(const hardware::HostFiles& files,
                                    const std::vector<std::string_view>& names) {
  if (const auto status = files.read("/var/lib/dpkg/status", kDatabaseLimit)) {
    if (auto package = find_any(*status, names, find_dpkg)) return package;
  }
  if (const auto directories = files.list("/var/lib/pacman/local")) {
    if (auto package = find_any(*directories, names, find_pacman)) return package;
  }
  if (const auto nevras = files.read("/usr/lib/sysimage/libdnf5/nevras.toml", kDatabaseLimit)) {
    return find_any(*nevras, names, find_dnf);
  }
  return std::nullopt;
}

}  // namespace yoke::doctor
