// Which version of a package is installed, from the package manager's own files.
// Blocking reads; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hardware/host_files.h"

namespace yoke::doctor {

struct Package {
  std::string name;
  std::string version;
};

// The first of `names` that dpkg, pacman or dnf's own record knows as installed. RPM's database is
// not read: it is a binary one.
std::optional<Package> find_package(const hardware::HostFiles& files,
                                    const std::vector<std::string_view>& names);

}  // namespace yoke::doctor
