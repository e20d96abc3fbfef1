// A scriptable stand-in for llama-server, for failure and load tests. See README.md.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>
#include <vector>

#include "fake_engine/behaviour.h"
#include "fake_engine/engine.h"
#include "fake_engine/log.h"
#include "fake_engine/options.h"
#include "fake_engine/process.h"
#include "fake_engine/server.h"

namespace fake_engine {
namespace {

void show_version(const Behaviour& behaviour) {
  std::fprintf(stderr, "version: %s\nbuilt with g++ %s for %s\n", behaviour.version.c_str(),
               __VERSION__, "Linux");
}

void list_devices(const Behaviour& behaviour) {
  std::printf("Available devices:\n");
  if (behaviour.devices.empty()) std::printf("  (none)\n");
  std::string line;
  for (const char c : behaviour.devices + '\n') {
    if (c != '\n') {
      line += c;
    } else if (!line.empty()) {
      std::printf("  %s\n", line.c_str());
      line.clear();
    }
  }
}

void block_signals() {
  // A parent may have left them ignored, and then they would never arrive.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT}) {
    std::signal(signal, SIG_DFL);
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

int serve(const Options& options, const Behaviour& behaviour) {
  set_log_format({options.log_prefix, options.log_timestamps});
  set_process_limits();
  const std::vector<pid_t> children = spawn_children(behaviour);
  block_signals();
  Engine engine(options, behaviour, children);
  Server server(engine);
  const int code = server.listen() ? server.run() : 1;
  // Connection threads that did not end in time still use the engine: leave without destructors.
  std::fflush(nullptr);
  _exit(code);
}

int run(const std::vector<std::string>& arguments) {
  // llama-server says so even before --version.
  log_line('I', "srv  llama_server: initializing ...");
  Behaviour behaviour;
  if (const auto wrong = apply_process_scripts("", behaviour)) {
    std::fprintf(stderr, "error: %s\n", wrong->c_str());
    return 1;
  }
  const ParsedCommandLine parsed = parse_command_line(arguments, behaviour.hide_flags);
  switch (parsed.action) {
    case Action::kShowVersion:
      show_version(behaviour);
      return 0;
    case Action::kShowHelp:
      std::fputs(help_text(behaviour.hide_flags).c_str(), stdout);
      return 0;
    case Action::kListDevices:
      list_devices(behaviour);
      return 0;
    case Action::kFail:
      std::fprintf(stderr, "%s\n", parsed.error.c_str());
      return 1;
    case Action::kServe:
      break;
  }
  Behaviour with_model;
  if (const auto wrong = apply_process_scripts(parsed.options.model_path, with_model)) {
    std::fprintf(stderr, "error: %s\n", wrong->c_str());
    return 1;
  }
  return serve(parsed.options, with_model);
}

}  // namespace
}  // namespace fake_engine

int main(int argc, char** argv) {
  return fake_engine::run(std::vector<std::string>(argv + 1, argv + argc));
}
