#include "store/state_lock.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "store/store.h"

namespace yoke::store {
namespace {

tl::unexpected<Error> refused(const std::filesystem::path& file, int error,
                              const LockTerms& terms) {
  const bool full = error == ENOSPC || error == EDQUOT;
  const std::string dir = file.parent_path().string();
  return fail(
      terms.failed,
      fmt::format("{} can't be locked: {}.", file.string(), std::generic_category().message(error)),
      fmt::format(
          "{}, or {}.",
          full ? fmt::format("Free some space in {}", dir) : fmt::format("Make {} writable", dir),
          terms.elsewhere));
}

// " (process 123)", or nothing if the holder has not said.
std::string holder_of(int fd) {
  std::array<char, 32> text{};
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  int pid = 0;
  if (size > 0) std::from_chars(text.data(), text.data() + size, pid);
  return pid > 0 ? fmt::format(" (process {})", pid) : std::string();
}

}  // namespace

Result<UniqueFd> lock_state(const std::filesystem::path& dir) {
  return lock_file(
      dir / "state.lock",
      {.in_use = {kStoreInUse, "Another Yoke{} uses " + dir.string() + ".",
                  "End it, or give this one a directory of its own: state_dir in [server]."},
       .failed = kStoreFailed,
       .elsewhere = "set state_dir in [server]"});
}

Result<UniqueFd> lock_file(const std::filesystem::path& file, const LockTerms& terms) {
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return refused(file, errno, terms);
  int locked = 0;
  do {
    locked = ::flock(fd.get(), LOCK_EX | LOCK_NB);
  } while (locked != 0 && errno == EINTR);
  if (locked != 0 && errno == EWOULDBLOCK) {
    Error in_use = terms.in_use;
    const std::size_t place = in_use.message.find("{}");
    if (place != std::string::npos) in_use.message.replace(place, 2, holder_of(fd.get()));
    return fail(std::move(in_use));
  }
  if (locked != 0) return refused(file, errno, terms);
  // Who holds it is for messages only: a full disk is no reason to refuse.
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) return fd;
  return fd;
}

}  // namespace yoke::store
