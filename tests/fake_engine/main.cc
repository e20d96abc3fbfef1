// A scriptable stand-in for llama-server and vLLM, for failure and load tests. See README.md.

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "fake_engine/behaviour.h"
#include "fake_engine/engine.h"
#include "fake_engine/log.h"
#include "fake_engine/options.h"
#include "fake_engine/process.h"
#include "fake_engine/server.h"
#include "fake_engine/vllm.h"

namespace fake_engine {
namespace {

void show_version(const Options& options, const Behaviour& behaviour) {
  if (options.vllm) {
    std::printf("%s\n", behaviour.version.c_str());
    return;
  }
  std::fprintf(stderr, "version: %s\nbuilt with g++ %s for %s\n", behaviour.version.c_str(),
               __VERSION__, "Linux");
}

// What an engine for that backend sees where its device is there.
std::string usual_devices(const std::string& backend) {
  const std::string memory = ": Fake GPU (16384 MiB, 16000 MiB free)";
  if (backend == "vulkan") return "Vulkan0" + memory;
  if (backend == "rocm") return "ROCm0" + memory;
  if (backend == "cuda") return "CUDA0" + memory;
  return "";
}

void list_devices(const Behaviour& behaviour) {
  std::printf("Available devices:\n");
  const std::string devices =
      behaviour.devices.empty() ? usual_devices(behaviour.backend) : behaviour.devices;
  if (devices.empty() || devices == "none") std::printf("  (none)\n");
  std::string line;
  for (const char c : (devices == "none" ? "" : devices) + '\n') {
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
  std::vector<pid_t> children = spawn_children(behaviour);
  VllmProcesses vllm;
  if (options.vllm) {
    vllm = VllmProcesses::start(behaviour);
    children.insert(children.end(), vllm.pids().begin(), vllm.pids().end());
  }
  block_signals();
  note_in_journal(behaviour, "start");
  Engine engine(options, behaviour, children);
  Server server(engine);
  // vLLM listens only when its model is loaded.
  if (options.vllm) std::this_thread::sleep_for(std::chrono::milliseconds(behaviour.load_ms));
  const int code = server.listen() ? server.run() : 1;
  if (!behaviour.children_stay) vllm.remove_files();
  // Connection threads that did not end in time still use the engine: leave without destructors.
  std::fflush(nullptr);
  _exit(code);
}

// "vulkan" for ".../llama.cpp-0.5.0/vulkan/llama-server": engines lie in a directory per backend.
std::string backend_of(std::string program) {
  const size_t slash = program.rfind('/');
  if (slash == program.npos) return "";
  program.resize(slash);
  if (program.ends_with("/bin")) program.resize(program.size() - 4);  // Of a virtual environment.
  return program.substr(program.rfind('/') + 1);
}

int run(const std::string& program, const std::vector<std::string>& arguments) {
  const bool vllm = is_vllm_call(program, arguments);
  // llama-server says so even before --version.
  if (!vllm) log_line('I', "srv  llama_server: initializing ...");
  Behaviour behaviour;
  behaviour.backend = backend_of(program);
  if (const auto wrong = apply_process_scripts("", behaviour)) {
    std::fprintf(stderr, "error: %s\n", wrong->c_str());
    return 1;
  }
  const ParsedCommandLine parsed = vllm ? parse_vllm_command_line(arguments)
                                        : parse_command_line(arguments, behaviour.hide_flags);
  switch (parsed.action) {
    case Action::kShowVersion:
      show_version(parsed.options, behaviour);
      return 0;
    case Action::kShowHelp:
      std::fputs((vllm ? vllm_help() : help_text(behaviour.hide_flags)).c_str(), stdout);
      return 0;
    case Action::kListDevices:
      list_devices(behaviour);
      return 0;
    case Action::kFail:
      std::fprintf(stderr, "%s\n", parsed.error.c_str());
      return vllm ? 2 : 1;
    case Action::kServe:
      break;
  }
  Behaviour with_model;
  with_model.backend = behaviour.backend;
  if (const auto wrong = apply_process_scripts(parsed.options.model_path, with_model)) {
    std::fprintf(stderr, "error: %s\n", wrong->c_str());
    return 1;
  }
  return serve(parsed.options, with_model);
}

}  // namespace
}  // namespace fake_engine

int main(int argc, char** argv) {
  return fake_engine::run(argv[0], std::vector<std::string>(argv + 1, argv + argc));
}
