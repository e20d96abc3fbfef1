#include "supervisor/shared_memory.h"

#include <cerrno>
#include <fstream>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <tuple>
#include <unistd.h>

#include <fmt/format.h>

#include "base/log.h"
#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDirectory = "/dev/shm/";
constexpr std::string_view kDeleted = " (deleted)";
// Names that Python gives semaphores, and blocks of memory.
constexpr std::string_view kPythonSemaphore = "/dev/shm/sem.mp-";
constexpr std::string_view kPythonMemory = "/dev/shm/psm_";
// Lines of a process's maps; more than any has.
constexpr int kMaxMappings = 200'000;

bool is_python(std::string_view path) {
  return path.starts_with(kPythonSemaphore) || path.starts_with(kPythonMemory);
}

// Calls `visit` with each path in the directory that the process has mapped or open, as the kernel
// writes it. False if that may not be read, as with other users' processes.
template <class Visit>
bool for_each_file(pid_t process, Visit visit) {
  errno = 0;
  std::ifstream maps(fmt::format("/proc/{}/maps", process));
  bool readable = maps.is_open() || errno != EACCES;
  std::string line;
  for (int i = 0; i < kMaxMappings && std::getline(maps, line); ++i) {
    const std::size_t path = line.find('/');
    if (path != std::string::npos && line.compare(path, kDirectory.size(), kDirectory) == 0) {
      visit(std::string_view(line).substr(path));
    }
  }
  std::error_code error;
  for (fs::directory_iterator it(fmt::format("/proc/{}/fd", process), error), end;
       !error && it != end; it.increment(error)) {
    std::error_code gone;
    const std::string target = fs::read_symlink(it->path(), gone).string();
    if (!gone && target.starts_with(kDirectory)) visit(std::string_view(target));
  }
  return readable && error != std::errc::permission_denied;
}

struct InUse {
  std::set<std::string, std::less<>> files;
  bool complete = true;  // Every process could be looked at.
};

InUse files_in_use() {
  InUse in_use;
  for (const ProcessInfo& process : list_processes()) {
    const bool read =
        for_each_file(process.pid, [&](std::string_view path) { in_use.files.emplace(path); });
    in_use.complete = in_use.complete && read;
  }
  return in_use;
}

bool is_own_file(const fs::path& path, struct stat& info) {
  return ::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == ::geteuid();
}

bool is_before(const timespec& a, const timespec& b) {
  return std::tie(a.tv_sec, a.tv_nsec) < std::tie(b.tv_sec, b.tv_nsec);
}

}  // namespace

SharedMemory::SharedMemory() {
  // The clock that stamps files, which is coarser than the usual one.
  ::clock_gettime(CLOCK_REALTIME_COARSE, &since_);
}

void SharedMemory::note(pid_t process) {
  for_each_file(process, [this](std::string_view path) {
    python_ = python_ || is_python(path);
    if (!path.ends_with(kDeleted)) files_.emplace(path);
  });
}

std::set<fs::path> SharedMemory::candidates() const {
  std::set<fs::path> found = files_;
  if (!python_) return found;
  std::error_code error;
  for (fs::directory_iterator it(kDirectory, error), end; !error && it != end;
       it.increment(error)) {
    struct stat info{};
    if (it->path().string().starts_with(kPythonSemaphore) && is_own_file(it->path(), info) &&
        !is_before(info.st_ctim, since_)) {
      found.insert(it->path());
    }
  }
  return found;
}

std::size_t SharedMemory::remove_leftovers() {
  const std::set<fs::path> files = candidates();
  if (files.empty()) return 0;
  const InUse in_use = files_in_use();
  std::size_t removed = 0;
  for (const fs::path& file : files) {
    struct stat info{};
    if (in_use.files.contains(file.string()) || !is_own_file(file, info)) continue;
    // Others may have it only if its mode lets them.
    if (!in_use.complete && (info.st_mode & (S_IRWXG | S_IRWXO)) != 0) continue;
    std::error_code error;
    if (!fs::remove(file, error)) continue;
    log::debug("Removed {}, which an engine left behind.", file.string());
    ++removed;
  }
  files_.clear();
  return removed;
}

}  // namespace yoke::supervisor
