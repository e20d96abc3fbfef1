#include "hardware/host_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/units.h"
#include "hardware/open_in_root.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

// Paths hold names that others chose: no control characters in what people read.
std::string shown(std::string_view path) { return printable(path, 256); }

tl::unexpected<Error> fail_with(int error, std::string_view path) {
  if (error == ENOENT) {
    return fail(kHostFileMissing, fmt::format("{} does not exist.", shown(path)));
  }
  return fail(kHostFileUnreadable,
              fmt::format("{} can't be read: {}.", shown(path), std::strerror(error)));
}

tl::unexpected<Error> refuse(std::string_view path, std::string_view reason) {
  return fail(kHostFileUnreadable, fmt::format("{} {}.", shown(path), reason));
}

Result<std::string> read_all(int fd, std::string_view path, std::size_t limit) {
  std::string content;
  std::array<char, 4096> buffer;
  while (content.size() <= limit) {
    const std::size_t wanted = std::min(buffer.size(), limit + 1 - content.size());
    const ssize_t count = ::read(fd, buffer.data(), wanted);
    if (count == 0) return content;
    if (count > 0) {
      content.append(buffer.data(), static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      return fail_with(errno, path);
    }
  }
  return refuse(path, fmt::format("is larger than {}", format_memory(limit)));
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

}  // namespace

struct HostFiles::Root {
  UniqueFd directory;
  bool real = false;  // It is the file system's own root: nothing to be kept inside.

  Result<UniqueFd> open(std::string_view path, int flags) const {
    if (!path.starts_with('/') || path.find('\0') != std::string_view::npos) {
      return refuse(path, "is no absolute path");
    }
    const std::string name(path);
    // openat2() takes O_PATH with few other flags.
    const int all_flags = flags | O_CLOEXEC | ((flags & O_PATH) != 0 ? 0 : O_NOCTTY);
    UniqueFd fd = real ? UniqueFd(::open(name.c_str(), all_flags))
                       : open_in_root(directory.get(), name, all_flags);
    if (!fd) return fail_with(errno, path);
    return fd;
  }
};

HostFiles::HostFiles(std::filesystem::path root, std::shared_ptr<const Root> open)
    : root_(std::move(root)), open_(std::move(open)) {}

Result<HostFiles> HostFiles::open(const std::filesystem::path& root) {
  std::error_code error;
  std::filesystem::path resolved = std::filesystem::canonical(root, error);
  auto opened = std::make_shared<Root>();
  if (!error) {
    opened->directory = UniqueFd(::open(resolved.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!opened->directory) error.assign(errno, std::generic_category());
  }
  if (error) {
    return fail(kInvalidArgument,
                fmt::format("'{}' can't be used as a root: {}.", root.string(), error.message()),
                "Name a directory that holds a copy of a machine's /proc, /sys and /etc.");
  }
  opened->real = resolved == "/";
  return HostFiles(std::move(resolved), std::move(opened));
}

Result<std::string> HostFiles::read(std::string_view path, std::size_t limit) const {
  // O_NONBLOCK: opening a FIFO without a writer would wait for one.
  YOKE_TRY(const UniqueFd fd, open_->open(path, O_RDONLY | O_NONBLOCK));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_with(errno, path);
  if (!S_ISREG(status.st_mode)) return refuse(path, "is no regular file");
  return read_all(fd.get(), path, limit);
}

Result<std::string> HostFiles::read_line(std::string_view path) const {
  YOKE_TRY(const std::string content, read(path));
  std::string_view rest = content;
  return std::string(trim(take_line(rest)));
}

Result<std::uint64_t> HostFiles::read_number(std::string_view path) const {
  YOKE_TRY(const std::string content, read(path));
  const auto number = parse_number(trim(content));
  if (!number) return refuse(path, fmt::format("holds no number: '{}'", printable(trim(content))));
  return *number;
}

Result<std::vector<std::string>> HostFiles::list(std::string_view path) const {
  constexpr std::size_t kMost = 4096;
  YOKE_TRY(UniqueFd fd, open_->open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK));
  const std::unique_ptr<DIR, CloseDirectory> directory(::fdopendir(fd.get()));
  if (!directory) return fail_with(errno, path);
  fd.release();  // The DIR owns it now.

  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() == kMost) return refuse(path, fmt::format("holds more than {} names", kMost));
    names.emplace_back(name);
  }
  if (errno != 0) return fail_with(errno, path);
  std::ranges::sort(names);
  return names;
}

Result<std::string> HostFiles::link_name(std::string_view path) const {
  YOKE_TRY(const UniqueFd fd, open_->open(path, O_PATH | O_NOFOLLOW));
  std::array<char, 4096> target;
  const ssize_t length = ::readlinkat(fd.get(), "", target.data(), target.size());
  // An empty path on what is no link is ENOENT, though the file is there.
  if (length <= 0) return refuse(path, "is no symbolic link");
  std::string_view name(target.data(), static_cast<std::size_t>(length));
  while (name.size() > 1 && name.back() == '/') name.remove_suffix(1);
  return std::string(name.substr(name.rfind('/') + 1));
}

Result<HostFiles::Info> HostFiles::info(std::string_view path) const {
  YOKE_TRY(const UniqueFd fd, open_->open(path, O_PATH));
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return fail_with(errno, path);
  return Info{.directory = S_ISDIR(status.st_mode),
              .mode = status.st_mode & 07777,
              .uid = status.st_uid,
              .gid = status.st_gid};
}

bool HostFiles::exists(std::string_view path) const { return info(path).has_value(); }

}  // namespace yoke::hardware
