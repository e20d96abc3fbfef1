// FileWatch: tells when another content of one file is there to be read. It listens to the
// directories on the way to the file, because editors put a new file in the old one's place, and
// Kubernetes changes a symbolic link on the way.
// Owned by what reads the file; all calls on the one thread of its executor, which looks at the
// file system. Must outlive its tasks.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "io/task.h"

struct inotify_event;  // NOLINT(readability-identifier-naming): the kernel's.

namespace yoke::io {

class FileWatch {
 public:
  struct Times {
    // How long the file has to stay as it is, so that nobody is in the middle of writing it.
    std::chrono::milliseconds quiet{300};
    // How often it is looked at where the system doesn't tell: in a directory that is not there
    // yet, or when the user's inotify watches are used up, which the log says.
    std::chrono::milliseconds poll{2000};
  };

  // What is there now is known; make it before the file is read. `file` need not exist.
  FileWatch(const boost::asio::any_io_executor& executor, const std::filesystem::path& file)
      : FileWatch(executor, file, Times{}) {}
  FileWatch(const boost::asio::any_io_executor& executor, const std::filesystem::path& file,
            Times times);

  // Returns when the file is there, was changed since the last return, and is quiet. No deadline:
  // cancel it. One call at a time.
  Task<void> next_change();

 private:
  // Two of them differ if the content may.
  struct Print {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t size = 0;
    std::pair<std::int64_t, std::int64_t> modified{};  // Seconds and nanoseconds.
    std::pair<std::int64_t, std::int64_t> changed{};   // Of its owner, name and rights too.
    friend bool operator==(const Print&, const Print&) = default;
  };
  // A directory, and what in it is on the way to the file.
  struct Place {
    int watch = -1;
    std::filesystem::path directory;
    std::set<std::string> names;
  };

  std::optional<Print> look() const;
  void open();
  // Listens to the directories that are on the way now.
  void follow();
  int listen_to(const std::filesystem::path& directory);
  void give_up(const char* call, int error);
  // Until something happened on the way, or it is time to look.
  Task<void> wait_for_event();
  Task<void> wait_readable();
  // Takes what the system told; whether the file may be another.
  bool take_events();
  bool concerns(const inotify_event& event, const char* name) const;

  std::filesystem::path file_;
  Times times_;
  boost::asio::posix::stream_descriptor events_;
  std::vector<Place> places_;
  bool listens_everywhere_ = false;
  bool told_of_limit_ = false;
  std::optional<Print> known_;
};

}  // namespace yoke::io
