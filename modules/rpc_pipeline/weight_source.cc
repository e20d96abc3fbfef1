#include "rpc_pipeline/weight_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace rpc_pipeline {
namespace {

std::int64_t change_time(const struct stat& status) {
  return std::int64_t{status.st_ctim.tv_sec} * 1'000'000'000 + status.st_ctim.tv_nsec;
}

}  // namespace

WeightFile::WeightFile(int handle, std::string name, std::uint64_t bytes, std::int64_t changed)
    : fd(handle), path(std::move(name)), size(bytes), changed_ns(changed) {}

WeightFile::~WeightFile() {
  if (fd >= 0) ::close(fd);
}

std::shared_ptr<const WeightFile> WeightFile::open(const std::string& path) {
  // Asked by name first: to open a device can have effects.
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return nullptr;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return nullptr;
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return nullptr;
  }
  return std::make_shared<const WeightFile>(fd, path, static_cast<std::uint64_t>(status.st_size),
                                            change_time(status));
}

bool WeightFile::unchanged() const {
  struct stat status{};
  return ::fstat(fd, &status) == 0 && static_cast<std::uint64_t>(status.st_size) == size &&
         change_time(status) == changed_ns;
}

}  // namespace rpc_pipeline
