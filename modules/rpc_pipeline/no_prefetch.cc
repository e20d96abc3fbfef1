// libyoke-no-prefetch.so, for LD_PRELOAD: keeps llama.cpp from reading a model that it maps.
//
// Its loader maps a model with MAP_POPULATE and then asks for all of it with
// POSIX_MADV_WILLNEED, so the whole file is read even if every layer goes to a worker that has it
// cached. Here mappings of regular files are made without the one, and the other does nothing:
// pages are read when they are touched. All else is as the C library does it.
//
// Called by any thread, at any time, also before constructors have run: so these functions allocate
// nothing and look nothing up.

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define YOKE_EXPORT extern "C" __attribute__((visibility("default")))

static_assert(sizeof(void*) == 8 && sizeof(off_t) == 8,
              "mmap's offset is in bytes on 64 bits only");

namespace {

bool is_regular_file(int fd) {
  struct stat status{};
  const int before = errno;
  const bool is_regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  errno = before;
  return is_regular;
}

void* map(void* address, size_t size, int protection, int flags, int fd, off_t offset) {
  if ((flags & MAP_POPULATE) != 0 && (flags & MAP_ANONYMOUS) == 0 && is_regular_file(fd)) {
    flags &= ~MAP_POPULATE;
  }
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, fd, offset));
}

/// What the server starts needn't have this library; other libraries that are preloaded stay.
__attribute__((constructor)) void leave_the_environment() {
  const char* const preloaded = getenv("LD_PRELOAD");
  Dl_info own{};
  if (preloaded == nullptr || dladdr(reinterpret_cast<void*>(&map), &own) == 0) return;
  if (own.dli_fname != nullptr && strcmp(preloaded, own.dli_fname) == 0) unsetenv("LD_PRELOAD");
}

}  // namespace

YOKE_EXPORT void* mmap(void* address, size_t size, int protection, int flags, int fd,
                       off_t offset) noexcept {
  return map(address, size, protection, flags, fd, offset);
}

YOKE_EXPORT void* mmap64(void* address, size_t size, int protection, int flags, int fd,
                         off64_t offset) noexcept {
  return map(address, size, protection, flags, fd, offset);
}

/// Returns an error's number, and leaves errno alone.
YOKE_EXPORT int posix_madvise(void* address, size_t size, int advice) noexcept {
  // DONTNEED would throw changes away, and is nothing in the C library too.
  if (advice == POSIX_MADV_WILLNEED || advice == POSIX_MADV_DONTNEED) return 0;
  const int before = errno;
  const bool failed = syscall(SYS_madvise, address, size, advice) != 0;
  const int error = errno;
  errno = before;
  return failed ? error : 0;
}
