// What the tests of this module share: directories and variables of their
// own, a process without rights, and the excerpt of a real --help.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <linux/capability.h>
#include <optional>
#include <stdlib.h>
#include <string>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engines/capabilities.h"

namespace yoke::engines {

class ScratchDir {
 public:
  ScratchDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "yoke-engines-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  ~ScratchDir() { std::filesystem::remove_all(path_); }

  // Makes the directories above it too.
  std::filesystem::path write(const std::string& name, const std::string& content,
                              ::mode_t mode = 0644) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
    ::chmod(file.c_str(), mode);
    return file;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Sets an environment variable for the length of a test.
class EnvironmentGuard {
 public:
  EnvironmentGuard(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  EnvironmentGuard(const EnvironmentGuard&) = delete;
  EnvironmentGuard& operator=(const EnvironmentGuard&) = delete;
  ~EnvironmentGuard() {
    if (old_) {
      ::setenv(name_, old_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

// Runs `check` in a child process without root's rights, and gives what it returned.
inline bool true_without_capabilities(const std::function<bool()>& check) {
  const ::pid_t child = ::fork();
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2]{};
    const bool dropped = ::syscall(SYS_capset, &header, none) == 0;
    ::_exit(dropped && check() ? 0 : 1);
  }
  int status = -1;
  return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

// --help of llama-server 0.5.0, cut to the flags that matter here.
inline std::string real_help() {
  std::ifstream in(std::filesystem::path(__FILE__).parent_path() /
                   "testdata/llama_server_0.5.0_help.txt");
  return {std::istreambuf_iterator<char>(in), {}};
}

inline Capabilities real_capabilities() {
  return parse_capabilities("version: 0.5.0 (build 1, commit de3ff81)\n", real_help()).value();
}

}  // namespace yoke::engines
