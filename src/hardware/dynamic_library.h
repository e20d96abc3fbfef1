// DynamicLibrary: sole owner of a shared library that was loaded at run time. Loading runs the
// library's own code, so this is for a probe's child only. One thread at a time.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/result.h"

namespace yoke::hardware {

class DynamicLibrary {
 public:
  // kIo with the dynamic linker's own words if it can't be loaded.
  static Result<DynamicLibrary> open(const std::filesystem::path& path);

  DynamicLibrary(DynamicLibrary&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), name_(std::move(other.name_)) {}
  DynamicLibrary& operator=(DynamicLibrary&&) = delete;
  ~DynamicLibrary();

  // The function of that name, or null. `Signature` is what the caller knows of it; nothing checks.
  template <class Signature>
  Signature* find(const char* name) const {
    return reinterpret_cast<Signature*>(symbol(name));
  }

  // The same for one that can't be done without: kIo if it is missing.
  template <class Signature>
  Result<Signature*> function(const char* name) const {
    auto* const found = find<Signature>(name);
    if (found == nullptr) return fail(kIo, fmt::format("{} has no function {}.", name_, name));
    return found;
  }

 private:
  DynamicLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  void* symbol(const char* name) const;

  void* handle_;
  std::string name_;  // The file's, without its directory.
};

}  // namespace yoke::hardware
