// How a distribution sets kernel parameters and rebuilds what the machine starts from.
// Plain values and pure functions, except read_distribution(); any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hardware/host_files.h"

namespace yoke::doctor {

struct Distribution {
  enum class Family { kDebian, kFedora, kArch, kSuse, kNixos, kOther };
  Family family = Family::kOther;
  bool image_based = false;  // rpm-ostree: the initramfs and kernel belong to an image.
  // /etc/default/grub.d is read: GRUB on Debian, Ubuntu and what comes from them.
  bool grub_directory = false;
  enum class Initramfs { kUnknown, kUpdateInitramfs, kDracut, kMkinitcpio };
  Initramfs initramfs = Initramfs::kUnknown;
};

Distribution read_distribution(const hardware::HostFiles& files);

using Command = std::vector<std::string>;  // The program and its arguments.
std::string to_string(const Command& command);

// Empty if it is not known how.
Command rebuild_initramfs(const Distribution& distribution);

// What a person does to start the kernel with `arguments` ("amd_iommu=off"), and without.
std::string how_to_add(const Distribution& distribution, std::string_view arguments);
std::string how_to_remove(const Distribution& distribution, std::string_view arguments);
// "sudo apt install mesa-vulkan-drivers", for what Debian, Fedora and Arch call it.
struct PackageNames {
  std::string_view debian;
  std::string_view fedora;
  std::string_view arch;
};
std::string how_to_install(const Distribution& distribution, const PackageNames& names);
std::string how_to_uninstall(const Distribution& distribution, const PackageNames& names);
std::string how_to_update(const Distribution& distribution, const PackageNames& names);

}  // namespace yoke::doctor
