#include "hardware/dynamic_library.h"

#include <dlfcn.h>

namespace yoke::hardware {

Result<DynamicLibrary> DynamicLibrary::open(const std::filesystem::path& path) {
  // RTLD_NOW: a library that lacks one of its own needs says so here, not in the middle of a call.
  void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const reason = ::dlerror();
    return fail(kIo, fmt::format("{} can't be loaded: {}.", path.native(),
                                 reason == nullptr ? "unknown reason" : reason));
  }
  return DynamicLibrary(handle, path.filename().native());
}

DynamicLibrary::~DynamicLibrary() {
  if (handle_ != nullptr) ::dlclose(handle_);
}

void* DynamicLibrary::symbol(const char* name) const { return ::dlsym(handle_, name); }

}  // namespace yoke::hardware
