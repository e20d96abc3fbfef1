// The fake as `vllm`: its command line, and the processes that vLLM leaves behind when it is
// killed.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

#include "fake_engine/behaviour.h"
#include "fake_engine/options.h"

namespace fake_engine {

// Whether the program is called as vLLM is: `vllm ...`, or by any name with `serve` first.
bool is_vllm_call(const std::string& program, const std::vector<std::string>& arguments);

ParsedCommandLine parse_vllm_command_line(const std::vector<std::string>& arguments);

// What `vllm serve --help=all` prints.
std::string vllm_help();

// An engine core and its worker, which live on when their parent is killed, and the files in
// /dev/shm that all of them have mapped.
class VllmProcesses {
 public:
  // Before the first thread starts.
  static VllmProcesses start(const Behaviour& behaviour);
  const std::vector<pid_t>& pids() const { return pids_; }
  // At a graceful end.
  void remove_files() const;

 private:
  std::vector<pid_t> pids_;
  std::vector<std::string> files_;
};

}  // namespace fake_engine
