#include "io/file_watch.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>

#include "base/log.h"
#include "io/sleep.h"
#include "io/wait_for_one.h"

namespace yoke::io {
namespace {

namespace fs = std::filesystem;

// As the kernel's own limit.
constexpr int kMaxLinks = 40;
constexpr std::size_t kMaxPlaces = 64;
// Reads per wake-up; what is left wakes it again.
constexpr int kMaxReads = 16;

// A file that is written tells when it is closed. Not IN_MODIFY: half a file is of no use.
constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE |
                                  IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |
                                  IN_ONLYDIR;

// A directory that something on the way lies in, and the name there.
using Step = std::pair<fs::path, std::string>;

// Every link and the file itself, as the kernel would find it; as far as the way exists.
std::vector<Step> way_to(const fs::path& file) {
  std::vector<Step> steps;
  std::vector<fs::path> left;  // The next one last.
  const auto push = [&](const fs::path& path) {
    const std::vector<fs::path> parts(path.begin(), path.end());
    left.insert(left.end(), parts.rbegin(), parts.rend());
  };
  push(file);
  fs::path at;
  for (int links = 0; !left.empty() && steps.size() < kMaxPlaces;) {
    const fs::path name = left.back();
    left.pop_back();
    if (name.empty() || name == ".") continue;
    if (name == "..") {
      at = at.parent_path();
      continue;
    }
    std::error_code error;
    const fs::path next = at / name;
    const bool is_link = fs::is_symlink(fs::symlink_status(next, error));
    if (is_link || left.empty()) steps.emplace_back(at, name.string());
    if (!is_link) {
      at = next;
      continue;
    }
    const fs::path target = fs::read_symlink(next, error);
    if (error || ++links > kMaxLinks) break;
    if (target.is_absolute()) at.clear();
    push(target);
  }
  return steps;
}

// As it is given where the current directory is gone.
fs::path absolute_of(const fs::path& file) {
  std::error_code error;
  fs::path path = fs::absolute(file, error);
  return error ? file : path;
}

// A new file that somebody is about to write, unlike a link: IN_CLOSE_WRITE follows.
bool will_be_closed(const fs::path& file) {
  struct stat info{};
  return ::lstat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1;
}

}  // namespace

FileWatch::FileWatch(const boost::asio::any_io_executor& executor, const fs::path& file,
                     Times times)
    : file_(absolute_of(file)), times_(times), events_(executor) {
  open();
  follow();
  known_ = look();
}

std::optional<FileWatch::Print> FileWatch::look() const {
  struct stat info{};
  if (::stat(file_.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return Print{info.st_dev,
               info.st_ino,
               info.st_size,
               {info.st_mtim.tv_sec, info.st_mtim.tv_nsec},
               {info.st_ctim.tv_sec, info.st_ctim.tv_nsec}};
}

void FileWatch::open() {
  const int descriptor = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (descriptor < 0) return give_up("inotify_init1", errno);
  boost::system::error_code error;
  events_.assign(descriptor, error);
  if (error) {
    ::close(descriptor);
    give_up("epoll_ctl", error.value());
  }
}

void FileWatch::give_up(const char* call, int error) {
  if (std::exchange(told_of_limit_, true)) return;
  log::warning(
      "{} is looked at every {} ms, because the system doesn't tell of its changes: {}: {}",
      file_.string(), times_.poll.count(), call, std::strerror(error));
}

void FileWatch::follow() {
  if (!events_.is_open()) return;
  std::vector<Place> places;
  listens_everywhere_ = true;
  for (auto& [directory, name] : way_to(file_)) {
    auto place = std::ranges::find(places, directory, &Place::directory);
    if (place == places.end()) {
      places.push_back({listen_to(directory), directory, {}});
      place = std::prev(places.end());
    }
    listens_everywhere_ = listens_everywhere_ && place->watch >= 0;
    place->names.insert(name);
  }
  for (const Place& old : places_) {
    const bool is_used = std::ranges::find(places, old.watch, &Place::watch) != places.end();
    if (old.watch >= 0 && !is_used) ::inotify_rm_watch(events_.native_handle(), old.watch);
  }
  places_ = std::move(places);
}

// The same directory has the same watch.
int FileWatch::listen_to(const fs::path& directory) {
  const int watch = ::inotify_add_watch(events_.native_handle(), directory.c_str(), kEvents);
  if (watch < 0 && errno == ENOSPC) give_up("inotify_add_watch", errno);
  return watch;
}

Task<void> FileWatch::next_change() {
  for (;;) {
    follow();
    auto now = look();
    if (!now || now == known_) {
      co_await wait_for_event();
      continue;
    }
    // Also while it is written by something that keeps it open.
    co_await sleep_for(times_.quiet);
    if (look() != now) continue;
    known_ = now;
    co_return;
  }
}

Task<void> FileWatch::wait_for_event() {
  while (events_.is_open()) {
    if (listens_everywhere_) {
      co_await wait_readable();
    } else {
      auto event = wait_readable();
      auto clock = sleep_for(times_.poll);
      const auto first = co_await wait_for_one(std::move(event), std::move(clock));
      if (first.index() == 1) co_return;
    }
    if (take_events()) co_return;
  }
  co_await sleep_for(times_.poll);
}

Task<void> FileWatch::wait_readable() {
  boost::system::error_code error;
  co_await events_.async_wait(boost::asio::posix::descriptor_base::wait_read, into(error));
  if (!error || error == boost::asio::error::operation_aborted) co_return;
  give_up("epoll_wait", error.value());
  events_.close(error);
}

bool FileWatch::take_events() {
  alignas(inotify_event) std::array<char, 4096> buffer{};
  bool concerned = false;
  for (int reads = 0; reads < kMaxReads; ++reads) {
    const ssize_t count = ::read(events_.native_handle(), buffer.data(), buffer.size());
    if (count <= 0) break;
    const auto size = static_cast<std::size_t>(count);
    inotify_event event{};
    for (std::size_t at = 0; at + sizeof event <= size; at += sizeof event + event.len) {
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* const name = event.len > 0 ? buffer.data() + at + sizeof event : "";
      concerned = concerns(event, name) || concerned;
    }
  }
  return concerned;
}

bool FileWatch::concerns(const inotify_event& event, const char* name) const {
  if ((event.mask & IN_Q_OVERFLOW) != 0) return true;
  for (const Place& place : places_) {
    if (place.watch != event.wd) continue;
    if (event.len == 0) return true;  // The directory itself.
    if (!place.names.contains(name)) continue;
    const bool is_new_file = (event.mask & IN_CREATE) != 0 && (event.mask & IN_ISDIR) == 0;
    return !is_new_file || !will_be_closed(place.directory / name);
  }
  return false;
}

}  // namespace yoke::io
