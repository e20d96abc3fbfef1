#include "gguf/file_source.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "gguf/header.h"

namespace yoke::gguf {
namespace {

tl::unexpected<Error> unreadable(const std::string& name, int error) {
  return fail(kIo, fmt::format("{} can't be read: {}.", name, std::strerror(error)),
              "Check the owner and permissions of the file and its directories.");
}

}  // namespace

Result<FileSource> FileSource::open(const std::filesystem::path& path) {
  const std::string& name = path.native();
  // O_NONBLOCK: a pipe of that name must not keep us waiting.
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file && (errno == ENOENT || errno == ENOTDIR)) {
    return fail(kModelFileMissing, fmt::format("There is no model file {}.", name),
                "Put the file there or correct the path.");
  }
  if (!file) return unreadable(name, errno);
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return unreadable(name, errno);
  if (S_ISDIR(info.st_mode)) {
    return fail(kGgufInvalid, fmt::format("{} is a directory; a GGUF file was expected.", name),
                "Name the GGUF file in it.");
  }
  if (!S_ISREG(info.st_mode)) {
    return fail(kGgufInvalid, fmt::format("{} is no regular file; a GGUF file was expected.", name),
                "Correct the path.");
  }
  return FileSource(std::move(file), name, static_cast<std::uint64_t>(info.st_size));
}

Result<std::size_t> FileSource::read(std::uint64_t offset, std::span<char> into) {
  constexpr std::uint64_t kLargest = std::numeric_limits<::off_t>::max();
  if (offset > kLargest || into.size() > kLargest - offset) return 0;
  std::size_t done = 0;
  while (done < into.size()) {
    const ::ssize_t count = ::pread(file_.get(), into.data() + done, into.size() - done,
                                    static_cast<::off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return unreadable(name_, errno);
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

}  // namespace yoke::gguf
