#include "hardware/open_in_root.h"

#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace yoke::hardware {
namespace {

UniqueFd open_once(int root, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<__u64>(flags);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

}  // namespace

UniqueFd open_in_root(int root, const std::string& path, int flags) {
  constexpr int kAttempts = 8;  // EAGAIN: a directory on the way was being renamed.
  UniqueFd fd;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fd = open_once(root, path, flags);
    if (fd || errno != EAGAIN) break;
  }
  if (!fd && (errno == ENOSYS || errno == EPERM)) return open_without_links(root, path, flags);
  return fd;
}

UniqueFd open_without_links(int root, const std::string& path, int flags) {
  constexpr int kDirectory = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd directory(::openat(root, ".", kDirectory));
  std::string name = ".";
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string component = path.substr(begin, end - begin);
    begin = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      errno = ELOOP;
      return {};
    }
    if (name != ".") directory = UniqueFd(::openat(directory.get(), name.c_str(), kDirectory));
    if (!directory) {
      if (errno == ENOTDIR) errno = ELOOP;  // What O_DIRECTORY | O_NOFOLLOW says of a link.
      return {};
    }
    name = component;
  }
  return UniqueFd(::openat(directory.get(), name.c_str(), flags | O_NOFOLLOW));
}

}  // namespace yoke::hardware
