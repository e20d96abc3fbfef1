// What a fake library does besides answering: misbehave as an environment variable says
// (FAKE_HIP=crash). For the tests of the probes; one thread.
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <unistd.h>

// 1: of years ago, 2: of today, 3: of years to come. The build makes one of each.
#ifndef FAKE_ABI
#define FAKE_ABI 2
#endif

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))

namespace fake {

enum Abi { kOld = 1, kCurrent = 2, kNew = 3 };

inline std::string_view mode(const char* variable) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? "ok" : text;
}

// Where tests look for the process that hangs or was left behind.
inline void tell_pid(pid_t pid) {
  const char* const file = std::getenv("FAKE_PID_FILE");
  if (file == nullptr) return;
  const std::string ready = std::string(file) + ".new";
  std::ofstream(ready) << pid << '\n';
  std::rename(ready.c_str(), file);
}

// Called where a real library starts up.
inline void misbehave(std::string_view mode) {
  constexpr int kAnswerFd = 3;
  const std::string block(64 << 10, 'x');
  if (mode == "crash") {
    std::fputs("the last thing it said\n", stderr);
    volatile int* const nothing = nullptr;
    *nothing = 1;
  } else if (mode == "abort") {
    std::abort();
  } else if (mode == "hang") {
    tell_pid(::getpid());
    for (;;) ::pause();
  } else if (mode == "print") {
    for (int i = 0; i < 64; ++i) {
      std::fputs(block.c_str(), stdout);
      std::fputs(block.c_str(), stderr);
    }
    std::fflush(stdout);
  } else if (mode == "flood") {
    while (::write(kAnswerFd, block.data(), block.size()) > 0) {
    }
  } else if (mode == "scribble") {
    static_cast<void>(!::write(kAnswerFd, "{\"source\": \xff\x01", 13));
    ::_exit(0);
  } else if (mode == "exit") {
    ::_exit(7);
  } else if (mode == "leave") {
    if (const pid_t left = ::fork(); left == 0) {
      for (;;) ::pause();
    } else {
      tell_pid(left);
    }
  }
}

}  // namespace fake
