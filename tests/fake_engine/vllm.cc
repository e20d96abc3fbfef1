#include "fake_engine/vllm.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fake_engine/clock.h"
#include "fake_engine/log.h"
#include "fake_engine/token_text.h"

namespace fake_engine {
namespace {

struct VllmFlag {
  std::string_view name;
  std::string_view hint;  // Empty: takes no value.
  std::string_view help;
  void (*apply)(Options& options, const std::string& value) = nullptr;
};

const std::vector<VllmFlag>& vllm_flags() {
  static const std::vector<VllmFlag> flags = {
      {"--help", "", "show this help message and exit"},
      {"--host", "HOST", "Host name.",
       [](Options& o, const std::string& value) { o.host = value; }},
      {"--port", "PORT", "Port number.",
       [](Options& o, const std::string& value) {
         std::from_chars(value.data(), value.data() + value.size(), o.port);
       }},
      {"--served-model-name", "SERVED_MODEL_NAME", "The model name(s) used in the API.",
       [](Options& o, const std::string& value) { o.alias = value; }},
      {"--max-model-len", "MAX_MODEL_LEN", "Model context length (prompt and output).",
       [](Options& o, const std::string& value) {
         std::from_chars(value.data(), value.data() + value.size(), o.ctx_size);
       }},
      {"--max-num-seqs", "MAX_NUM_SEQS",
       "Maximum number of sequences to be processed in a single iteration.",
       [](Options& o, const std::string& value) {
         std::from_chars(value.data(), value.data() + value.size(), o.parallel);
       }},
      {"--runner", "{auto,draft,generate,pooling}", "The type of model runner to use.",
       [](Options& o, const std::string& value) { o.embeddings = value == "pooling"; }},
      {"--api-key", "API_KEY", "If provided, the server will require one of these keys.",
       [](Options& o, const std::string& value) { o.api_keys.push_back(value); }},
      {"--attention-backend", "ATTENTION_BACKEND", "Attention backend to use."},
      {"--chat-template", "CHAT_TEMPLATE", "The file path to the chat template."},
      {"--data-parallel-size", "DATA_PARALLEL_SIZE", "Number of data parallel groups."},
      {"--disable-log-requests", "", "Disable logging requests."},
      {"--dtype", "{auto,bfloat16,float,float16,float32,half}", "Data type for model weights."},
      {"--enable-lora", "", "If True, enable handling of LoRA adapters."},
      {"--enable-prefix-caching", "", "Whether to enable prefix caching."},
      {"--enforce-eager", "", "Whether to always use eager-mode PyTorch."},
      {"--gpu-memory-utilization", "GPU_MEMORY_UTILIZATION",
       "The fraction of GPU memory to be used for the model executor."},
      {"--headless", "", "Run in headless mode."},
      {"--kv-cache-dtype", "{auto,bfloat16,fp8,fp8_e4m3,fp8_e5m2}", "Data type for kv cache."},
      {"--kv-cache-memory-bytes", "KV_CACHE_MEMORY_BYTES", "Size of KV Cache per GPU in bytes."},
      {"--lora-modules", "LORA_MODULES", "LoRA modules configurations."},
      {"--master-addr", "MASTER_ADDR", "Master node address for multi-node inference."},
      {"--master-port", "MASTER_PORT", "Master node port for multi-node inference."},
      {"--max-num-batched-tokens", "MAX_NUM_BATCHED_TOKENS",
       "Maximum number of tokens to be processed in a single iteration."},
      {"--nnodes", "NNODES", "Number of nodes for multi-node inference."},
      {"--node-rank", "NODE_RANK", "Node rank for multi-node inference."},
      {"--pipeline-parallel-size", "PIPELINE_PARALLEL_SIZE", "Number of pipeline parallel groups."},
      {"--quantization", "QUANTIZATION", "Method used to quantize the weights."},
      {"--reasoning-parser", "REASONING_PARSER", "Select the reasoning parser."},
      {"--tensor-parallel-size", "TENSOR_PARALLEL_SIZE", "Number of tensor parallel groups."},
  };
  return flags;
}

const VllmFlag* find_vllm_flag(std::string_view name) {
  const auto& flags = vllm_flags();
  const auto found = std::find_if(flags.begin(), flags.end(),
                                  [&](const VllmFlag& flag) { return flag.name == name; });
  return found == flags.end() ? nullptr : &*found;
}

// As Python's argparse complains.
ParsedCommandLine refused(const std::string& what) {
  return {Action::kFail, {}, "usage: vllm serve [model_tag] [options]\nvllm: error: " + what};
}

[[noreturn]] void sleep_as(const char* name, const Behaviour& behaviour) {
  prctl(PR_SET_NAME, name);
  if (behaviour.ignore_term) std::signal(SIGTERM, SIG_IGN);
  alarm(static_cast<unsigned>(behaviour.max_lifetime_s));
  for (;;) pause();
}

// Maps a new file in /dev/shm, so that every process forked later has it.
std::string map_shared_file(const std::string& name) {
  const std::string path = "/dev/shm/" + name;
  const int fd = open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  constexpr size_t kBytes = 4096;
  void* mapped = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, kBytes) == 0) {
    mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (mapped == MAP_FAILED) {
    log_line('E', "fake: cannot map " + path);
    std::exit(1);
  }
  close(fd);
  return path;
}

// Forks a worker and tells its process id through `pipe`.
[[noreturn]] void be_engine_core(const Behaviour& behaviour, int pipe) {
  if (behaviour.children_setsid) setsid();
  const pid_t worker = fork();
  if (worker == 0) sleep_as("VLLM::Worker", behaviour);
  [[maybe_unused]] const ssize_t written = write(pipe, &worker, sizeof worker);
  close(pipe);
  sleep_as("VLLM::EngineCor", behaviour);  // As much of it as the kernel keeps.
}

}  // namespace

bool is_vllm_call(const std::string& program, const std::vector<std::string>& arguments) {
  return program.substr(program.rfind('/') + 1) == "vllm" ||
         (!arguments.empty() && arguments.front() == "serve");
}

ParsedCommandLine parse_vllm_command_line(const std::vector<std::string>& arguments) {
  ParsedCommandLine parsed;
  Options& options = parsed.options;
  options.vllm = true;
  options.port = 8000;
  if (const char* key = std::getenv("VLLM_API_KEY")) options.api_keys.emplace_back(key);
  if (arguments.empty()) return refused("the following arguments are required: command");
  if (arguments.front() == "--version") return {Action::kShowVersion, options, {}};
  if (arguments.front() != "serve") return refused("invalid choice: '" + arguments.front() + '\'');
  for (size_t at = 1; at < arguments.size(); ++at) {
    const std::string& argument = arguments[at];
    if (!argument.starts_with("--")) {
      options.model_path = argument;
      continue;
    }
    const size_t equals = std::min(argument.find('='), argument.size());
    const VllmFlag* const flag = find_vllm_flag(std::string_view(argument).substr(0, equals));
    if (!flag) return refused("unrecognized arguments: " + argument);
    if (flag->name == "--help") return {Action::kShowHelp, options, {}};
    std::string value = argument.substr(std::min(equals + 1, argument.size()));
    if (!flag->hint.empty() && equals == argument.size()) {
      if (at + 1 == arguments.size()) return refused("argument " + argument + ": expected one");
      value = arguments[++at];
    }
    if (flag->apply) flag->apply(options, value);
  }
  return parsed;
}

std::string vllm_help() {
  std::string text = "usage: vllm serve [model_tag] [options]\n\noptions:\n";
  for (const VllmFlag& flag : vllm_flags()) {
    std::string line = "  " + std::string(flag.name);
    if (!flag.hint.empty()) line.append(" ").append(flag.hint);
    constexpr size_t kHelpColumn = 24;
    if (line.size() > kHelpColumn - 2)
      line.append("\n").append(kHelpColumn, ' ');
    else
      line.append(kHelpColumn - line.size(), ' ');
    text.append(line).append(flag.help).append("\n");
  }
  return text;
}

VllmProcesses VllmProcesses::start(const Behaviour& behaviour) {
  VllmProcesses processes;
  const std::string name = hex64(fnv1a64(std::to_string(monotonic_ns()))).substr(8);
  processes.files_ = {map_shared_file("psm_" + name), map_shared_file("sem.mp-" + name)};
  int ends[2];
  if (pipe(ends) != 0) std::exit(1);
  const pid_t core = fork();
  if (core == 0) {
    close(ends[0]);
    be_engine_core(behaviour, ends[1]);
  }
  close(ends[1]);
  pid_t worker = -1;
  if (core < 0 || read(ends[0], &worker, sizeof worker) != sizeof worker || worker < 0) {
    log_line('E', "fake: cannot fork an engine core");
    std::exit(1);
  }
  close(ends[0]);
  processes.pids_ = {core, worker};
  return processes;
}

void VllmProcesses::remove_files() const {
  for (const std::string& file : files_) unlink(file.c_str());
}

}  // namespace fake_engine
