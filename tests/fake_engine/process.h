// What the fake does to its own process: dying on command, and children that outlive it.
#pragma once

#include <cstdint>
#include <sys/types.h>
#include <vector>

#include "fake_engine/behaviour.h"

namespace fake_engine {

// Writes the scripted log text and ends the process by the scripted signal or exit code, or by
// SIGABRT where the script names neither. From any thread.
[[noreturn]] void crash(const Behaviour& behaviour);

// Dies by `signal` with its default action, whatever the handlers and masks are.
[[noreturn]] void die_by_signal(int signal);

// Forks the scripted number of sleeping children. Call before the first thread starts.
std::vector<pid_t> spawn_children(const Behaviour& behaviour);

// Ends and reaps the children; for a graceful stop.
void end_children(const std::vector<pid_t>& children);

// Lets a load test have its connections, and keeps scripted crashes from leaving core files.
void set_process_limits();

}  // namespace fake_engine
