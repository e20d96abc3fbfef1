#include "doctor/distribution.h"

#include <algorithm>

#include <fmt/format.h>

#include "doctor/text.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

using Family = Distribution::Family;
using Initramfs = Distribution::Initramfs;

Family family_of(std::string_view id) {
  for (const std::string_view name : {"debian", "ubuntu", "linuxmint", "pop", "raspbian"}) {
    if (id == name) return Family::kDebian;
  }
  for (const std::string_view name : {"fedora", "rhel", "centos", "rocky", "almalinux"}) {
    if (id == name) return Family::kFedora;
  }
  for (const std::string_view name : {"arch", "archarm", "cachyos", "manjaro", "endeavouros"}) {
    if (id == name) return Family::kArch;
  }
  if (id.starts_with("opensuse") || id == "suse" || id == "sles") return Family::kSuse;
  if (id == "nixos") return Family::kNixos;
  return Family::kOther;
}

// ID first, then ID_LIKE from near to far.
Family read_family(std::string_view os_release) {
  std::vector<std::string_view> ids;
  for (const std::string_view key : {"ID=", "ID_LIKE="}) {
    for (const std::string_view line : lines_of(os_release)) {
      if (!line.starts_with(key)) continue;
      std::string_view value = hardware::trim(line.substr(key.size()));
      if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'')) {
        value = value.substr(1, value.size() - 2);
      }
      const auto words = words_of(value);
      ids.insert(ids.end(), words.begin(), words.end());
    }
  }
  for (const std::string_view id : ids) {
    if (const Family family = family_of(id); family != Family::kOther) return family;
  }
  return Family::kOther;
}

Initramfs read_initramfs(const hardware::HostFiles& files, Family family) {
  const auto has = [&](std::string_view path) { return files.exists(path); };
  switch (family) {
    case Family::kDebian:
      // Debian may use dracut in place of initramfs-tools.
      if (!has("/usr/sbin/update-initramfs") && has("/usr/bin/dracut")) return Initramfs::kDracut;
      return Initramfs::kUpdateInitramfs;
    case Family::kFedora:
    case Family::kSuse:
      return Initramfs::kDracut;
    case Family::kArch:
      if (!has("/etc/mkinitcpio.conf") && has("/usr/bin/dracut")) return Initramfs::kDracut;
      return Initramfs::kMkinitcpio;
    case Family::kNixos:
    case Family::kOther:
      break;
  }
  return Initramfs::kUnknown;
}

std::string_view name_for(Family family, const PackageNames& names) {
  if (family == Family::kDebian) return names.debian;
  if (family == Family::kArch) return names.arch;
  return names.fedora;
}

}  // namespace

Distribution read_distribution(const hardware::HostFiles& files) {
  auto os_release = files.read("/etc/os-release");
  if (!os_release) os_release = files.read("/usr/lib/os-release");
  Distribution distribution;
  if (os_release) distribution.family = read_family(*os_release);
  distribution.image_based = files.exists("/run/ostree-booted");
  distribution.grub_directory =
      distribution.family == Family::kDebian && files.exists("/etc/default/grub");
  if (!distribution.image_based) {
    distribution.initramfs = read_initramfs(files, distribution.family);
  }
  return distribution;
}

std::string to_string(const Command& command) { return fmt::format("{}", fmt::join(command, " ")); }

Command rebuild_initramfs(const Distribution& distribution) {
  switch (distribution.initramfs) {
    case Initramfs::kUpdateInitramfs:
      return {"update-initramfs", "-u", "-k", "all"};
    case Initramfs::kDracut:
      return {"dracut", "--force", "--regenerate-all"};
    case Initramfs::kMkinitcpio:
      return {"mkinitcpio", "-P"};
    case Initramfs::kUnknown:
      break;
  }
  return {};
}

std::string how_to_add(const Distribution& distribution, std::string_view arguments) {
  if (distribution.image_based) return fmt::format("rpm-ostree kargs --append=\"{}\"", arguments);
  if (distribution.family == Family::kFedora) {
    return fmt::format("sudo grubby --update-kernel=ALL --args=\"{}\"", arguments);
  }
  if (distribution.grub_directory) {
    return fmt::format(
        "Add {} to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub, then: sudo update-grub",
        arguments);
  }
  return fmt::format(
      "Add {} to the kernel's command line: in /etc/default/grub for GRUB, in the \"options\" line "
      "of /boot/loader/entries/*.conf for systemd-boot, in /etc/kernel/cmdline for a unified "
      "kernel image; then update the boot loader",
      arguments);
}

std::string how_to_remove(const Distribution& distribution, std::string_view arguments) {
  if (distribution.image_based) return fmt::format("rpm-ostree kargs --delete=\"{}\"", arguments);
  if (distribution.family == Family::kFedora) {
    return fmt::format("sudo grubby --update-kernel=ALL --remove-args=\"{}\"", arguments);
  }
  if (distribution.grub_directory) {
    return fmt::format("Remove {} from /etc/default/grub, then: sudo update-grub", arguments);
  }
  return fmt::format(
      "Remove {} from the kernel's command line (/etc/default/grub, /boot/loader/entries/*.conf or "
      "/etc/kernel/cmdline), then update the boot loader",
      arguments);
}

std::string how_to_install(const Distribution& distribution, const PackageNames& names) {
  const std::string_view name = name_for(distribution.family, names);
  if (distribution.image_based) return fmt::format("rpm-ostree install {}", name);
  switch (distribution.family) {
    case Family::kDebian:
      return fmt::format("sudo apt install {}", name);
    case Family::kFedora:
      return fmt::format("sudo dnf install {}", name);
    case Family::kArch:
      return fmt::format("sudo pacman -S {}", name);
    case Family::kSuse:
      return fmt::format("sudo zypper install {}", name);
    case Family::kNixos:
    case Family::kOther:
      break;
  }
  return fmt::format("Install the package that your distribution calls {} or similar", name);
}

std::string how_to_uninstall(const Distribution& distribution, const PackageNames& names) {
  const std::string_view name = name_for(distribution.family, names);
  if (distribution.image_based) return fmt::format("rpm-ostree uninstall {}", name);
  switch (distribution.family) {
    case Family::kDebian:
      return fmt::format("sudo apt purge {}", name);
    case Family::kFedora:
      return fmt::format("sudo dnf remove {}", name);
    case Family::kArch:
      return fmt::format("sudo pacman -R {}", name);
    case Family::kSuse:
      return fmt::format("sudo zypper remove {}", name);
    case Family::kNixos:
    case Family::kOther:
      break;
  }
  return fmt::format("Remove the package that your distribution calls {} or similar", name);
}

std::string how_to_update(const Distribution& distribution, const PackageNames& names) {
  const std::string_view name = name_for(distribution.family, names);
  if (distribution.image_based) return "rpm-ostree upgrade";
  switch (distribution.family) {
    case Family::kDebian:
      return fmt::format("sudo apt update && sudo apt install --only-upgrade {}", name);
    case Family::kFedora:
      return fmt::format("sudo dnf upgrade {}", name);
    case Family::kArch:
      return "sudo pacman -Syu";
    case Family::kSuse:
      return fmt::format("sudo zypper update {}", name);
    case Family::kNixos:
    case Family::kOther:
      break;
  }
  return fmt::format("Update the package that your distribution calls {} or similar", name);
}

}  // namespace yoke::doctor
