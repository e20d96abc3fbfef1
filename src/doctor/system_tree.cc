#include "doctor/system_tree.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "doctor/text.h"

namespace yoke::doctor {
namespace {

constexpr std::size_t kLimit = 4u << 20;

tl::unexpected<Error> fail_with(int error, std::string_view what, std::string_view path) {
  return fail(kIo, fmt::format("{} can't be {}: {}.", path, what, std::strerror(error)));
}

// "/etc/modprobe.d/yoke.conf" is "/etc/modprobe.d" and "yoke.conf".
struct Place {
  std::string directory;
  std::string name;
};

Place place_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return {std::string(path.substr(0, slash)), std::string(path.substr(slash + 1))};
}

Result<void> write_all(int fd, std::string_view content, std::string_view path) {
  while (!content.empty()) {
    const ssize_t count = ::write(fd, content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_with(errno, "written", path);
    content.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

Result<std::string> read_all(int fd, std::string_view path) {
  std::string content;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count == 0) return content;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_with(errno, "read", path);
    content.append(buffer.data(), static_cast<std::size_t>(count));
    if (content.size() > kLimit) return fail(kIo, fmt::format("{} is larger than 4 MiB.", path));
  }
}

}  // namespace

Result<SystemTree> SystemTree::open(const std::filesystem::path& root) {
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::canonical(root, error);
  if (error) {
    return fail(kInvalidArgument,
                fmt::format("'{}' can't be used as a root: {}.", root.string(), error.message()));
  }
  UniqueFd fd(::open(resolved.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_with(errno, "opened", resolved.string());
  return SystemTree(std::move(fd), resolved == "/");
}

Result<UniqueFd> SystemTree::open_directory(std::string_view path, bool make) const {
  const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (real_ ? 0 : O_NOFOLLOW);
  UniqueFd at(::openat(root_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!at) return fail_with(errno, "opened", path);
  for (const std::string_view part : split(path, '/')) {
    if (part.empty()) continue;
    if (part == "..") return fail(kIo, fmt::format("{} leads out of its directory.", path));
    const std::string name(part);
    if (make) {
      constexpr mode_t kMode = 0755;
      const bool made = ::mkdirat(at.get(), name.c_str(), kMode) == 0;
      if (!made && errno != EEXIST) return fail_with(errno, "made", path);
      // Whatever the umask left of it.
      if (made && ::fchmodat(at.get(), name.c_str(), kMode, 0) != 0) {
        return fail_with(errno, "made", path);
      }
    }
    UniqueFd next(::openat(at.get(), name.c_str(), flags));
    if (!next && errno == ENOENT && !make) return UniqueFd();
    if (!next) return fail_with(errno, "opened", path);
    at = std::move(next);
  }
  return at;
}

Result<std::optional<SystemTree::File>> SystemTree::read(std::string_view path) const {
  const Place place = place_of(path);
  YOKE_TRY(const UniqueFd directory, open_directory(place.directory, false));
  if (!directory) return std::optional<File>();
  const UniqueFd fd(::openat(directory.get(), place.name.c_str(),
                             O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd && errno == ENOENT) return std::optional<File>();
  if (!fd && errno == ELOOP) return fail(kIo, fmt::format("{} is a link, not a file.", path));
  if (!fd) return fail_with(errno, "opened", path);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_with(errno, "read", path);
  if (!S_ISREG(status.st_mode)) return fail(kIo, fmt::format("{} is no regular file.", path));
  YOKE_TRY(std::string content, read_all(fd.get(), path));
  return File{std::move(content), status.st_mode & 07777, status.st_uid, status.st_gid};
}

Result<void> SystemTree::write(std::string_view path, const File& file) const {
  const Place place = place_of(path);
  YOKE_TRY(const UniqueFd directory, open_directory(place.directory, true));
  const std::string temporary = unfinished(place.name);
  if (::unlinkat(directory.get(), temporary.c_str(), 0) != 0 && errno != ENOENT) {
    return fail_with(errno, "written", path);
  }
  const UniqueFd fd(::openat(directory.get(), temporary.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_with(errno, "written", path);
  YOKE_CHECK(write_all(fd.get(), file.content, path));
  // Only root may give a file away; everyone else is its owner already.
  if (::fchown(fd.get(), file.uid, file.gid) != 0 && errno != EPERM) {
    return fail_with(errno, "written", path);
  }
  if (::fchmod(fd.get(), file.mode) != 0 || ::fsync(fd.get()) != 0 ||
      ::renameat(directory.get(), temporary.c_str(), directory.get(), place.name.c_str()) != 0 ||
      ::fsync(directory.get()) != 0) {
    return fail_with(errno, "written", path);
  }
  return {};
}

Result<void> SystemTree::remove(std::string_view path) const {
  const Place place = place_of(path);
  YOKE_TRY(const UniqueFd directory, open_directory(place.directory, false));
  if (!directory) return {};
  if (::unlinkat(directory.get(), place.name.c_str(), 0) != 0 && errno != ENOENT) {
    return fail_with(errno, "removed", path);
  }
  if (::fsync(directory.get()) != 0) return fail_with(errno, "removed", path);
  return {};
}

Result<void> SystemTree::remove_empty_directory(std::string_view path) const {
  const Place place = place_of(path);
  YOKE_TRY(const UniqueFd directory, open_directory(place.directory, false));
  if (!directory) return {};
  const int removed = ::unlinkat(directory.get(), place.name.c_str(), AT_REMOVEDIR);
  if (removed != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST) {
    return fail_with(errno, "removed", path);
  }
  return {};
}

std::string SystemTree::unfinished(std::string_view path) {
  return fmt::format("{}.yoke-unfinished", path);
}

Result<std::vector<std::string>> SystemTree::missing_directories(std::string_view path) const {
  std::vector<std::string> missing;
  const Place place = place_of(path);
  std::string at;
  for (const std::string_view part : split(place.directory, '/')) {
    if (part.empty()) continue;
    at += fmt::format("/{}", part);
    YOKE_TRY(const UniqueFd directory, open_directory(at, false));
    if (!directory) missing.push_back(at);
  }
  return missing;
}

Result<UniqueFd> SystemTree::lock(std::string_view path) const {
  YOKE_TRY(UniqueFd directory, open_directory(path, true));
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_with(errno, "locked", path);
    return fail(kIo, "Another `yoke doctor` is changing files.", "Wait until it is done.");
  }
  return directory;
}

}  // namespace yoke::doctor
