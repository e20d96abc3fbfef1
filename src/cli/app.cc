#include "cli/app.h"

#include <exception>
#include <functional>
#include <string_view>

#include <fmt/format.h>

#include "base/result.h"
#include "cli/answer_view.h"
#include "cli/command_line.h"
#include "cli/detect.h"
#include "cli/exit_code.h"
#include "hardware/probe.h"
#include "supervisor/guard.h"

namespace yoke::cli {

int run(int argc, char** argv) {
  try {
    // A child that loads one driver's library (hardware/probe.h); not for people.
    if (argc > 1 && std::string_view(argv[1]) == kProbeCommand) {
      return hardware::run_probe_child({argv + 2, argv + argc});
    }
    // What ends the engines when this program was killed (supervisor/guard.h).
    if (argc > 1 && std::string_view(argv[1]) == supervisor::kGuardCommand) {
      return supervisor::run_guard();
    }
    CommandLine line;
    auto command = line.parse(argc, argv);
    const Result<void> done = command ? (*command)() : fail(std::move(command.error()));
    if (done) return kExitOk;
    // Who interrupts knows it; what he may not know is how to go on.
    const bool known = done.error().code == kCancelled && done.error().hint.empty();
    if (!known) print_error(done.error());
    return exit_code(done.error());
  } catch (const std::exception& error) {
    print_error({kInternal, fmt::format("A bug in Yoke: {}.", error.what()),
                 "Please report it with what you did before."});
    return kExitFailure;
  }
}

}  // namespace yoke::cli
