// The command line: takes it apart, runs the command, turns its outcome into an exit code.
// Main thread only.
#pragma once

namespace yoke::cli {

// The program's whole run; returns its exit code.
int run(int argc, char** argv);

}  // namespace yoke::cli
