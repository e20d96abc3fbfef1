#include "engines/failure.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <csignal>
#include <optional>
#include <vector>

#include <fmt/format.h>

namespace yoke::engines {
namespace {

using enum FailureClass;

struct Rule {
  FailureClass cls;
  std::string_view pattern;  // A part of the line; '*' stands for anything.
  std::string_view summary;  // Empty: that of the class.
};

constexpr std::string_view kIncomplete = "The model file is incomplete: download it again.";
constexpr std::string_view kNotGguf = "The model file is no GGUF file: check model_path.";
constexpr std::string_view kUnreadable =
    "The engine could not open the model file: check model_path and the file's permissions.";
constexpr std::string_view kNewerEngine =
    "This engine does not know the model's architecture: install a newer engine.";
constexpr std::string_view kNewerFormat =
    "The model file is of a newer GGUF version than the engine reads: install a newer engine.";
constexpr std::string_view kOlderFormat =
    "The model file's GGUF version is not one that the engine reads: get a newer conversion.";
constexpr std::string_view kFirstPart =
    "The model is split into several files: set model_path to the first (...-00001-of-...).";
constexpr std::string_view kParts =
    "The parts of the split model don't fit together: download all of them again.";
constexpr std::string_view kProjector =
    "The file is a multimodal projector and no model: set model_path to the model, and add "
    "[\"--mmproj\", FILE] to its extra_args.";
constexpr std::string_view kMetadata =
    "The model file lacks what the engine needs: use a newer engine or another conversion.";
constexpr std::string_view kRemovedFlag =
    "The engine no longer has one of the options it was given: correct the model's extra_args.";
constexpr std::string_view kDeviceMemory =
    "The GPU ran out of memory: lower n_ctx, n_ubatch or n_gpu_layers, or unload another model.";
constexpr std::string_view kKvMemory =
    "Memory ran out for the context: lower n_ctx or parallel, or unload another model.";
constexpr std::string_view kPermission =
    "The engine may not use the GPU: add the user to the groups 'render' and 'video', and log in "
    "again.";
constexpr std::string_view kLibrary =
    "A library that the engine needs is missing: install it, or run `make engine` again.";
constexpr std::string_view kDraft =
    "The draft model could not be loaded: check it in the model's extra_args.";
constexpr std::string_view kProjectorLoad =
    "The multimodal projector could not be loaded: check it in the model's extra_args.";
constexpr std::string_view kGpuMemoryError =
    "The GPU reported a memory error: see `dmesg`, and update the GPU's driver and firmware.";

// The first rule that matches any line decides, so causes stand before their consequences.
constexpr auto kRules = std::to_array<Rule>({
    {kPortTaken, "couldn't bind HTTP server socket", {}},
    {kPortTaken, "exiting due to HTTP server error", {}},

    {kBadArguments, "the argument has been removed. ", kRemovedFlag},
    {kBadArguments, "error: invalid argument: ", {}},
    {kBadArguments, "error while handling argument ", {}},
    {kBadArguments, "error while handling environment variable ", {}},

    {kBadModel, "failed to open GGUF file", kUnreadable},
    {kBadModel, "invalid magic characters: ", kNotGguf},
    {kBadModel, "data is not within the file bounds", kIncomplete},
    {kBadModel, "failed to read tensor data", kIncomplete},
    {kBadModel, "failed to read tensor info", kIncomplete},
    {kBadModel, "failed to read key-value pairs", kIncomplete},
    {kBadModel, "failed to read header", kIncomplete},
    {kBadModel, "failed to read magic", kIncomplete},
    {kBadModel, "corrupted model: ", kIncomplete},
    {kBadModel, "unknown model architecture: ", kNewerEngine},
    {kBadModel, "but this software only supports up to version", kNewerFormat},
    {kBadModel, "bad GGUF version", kOlderFormat},
    {kBadModel, "GGUFv1 is no longer supported", kOlderFormat},
    {kBadModel, "mismatch between the host and model endianness", kOlderFormat},
    {kBadModel, "illegal split file idx", kFirstPart},
    {kBadModel, "invalid split ", kParts},
    {kBadModel, "missing key * in GGUF split", kParts},
    {kBadModel, "CLIP cannot be used as main model", kProjector},
    {kBadModel, "missing tensor '", kMetadata},
    {kBadModel, "wrong number of tensors; expected", kMetadata},
    {kBadModel, "key not found in model: ", kMetadata},
    {kBadModel, "error loading model hyperparameters:", kMetadata},
    {kBadModel, "error loading model vocabulary:", kMetadata},

    {kOutOfMemory, "ErrorOutOfDeviceMemory", kDeviceMemory},
    {kOutOfMemory, "ErrorOutOfHostMemory", {}},
    {kOutOfMemory, "ggml_vulkan: Device memory allocation of size", kDeviceMemory},
    {kOutOfMemory, "ggml_vulkan: Memory allocation of size", kDeviceMemory},
    {kOutOfMemory, "Requested buffer size exceeds device buffer size limit", kDeviceMemory},
    {kOutOfMemory, "No suitable memory type found", kDeviceMemory},
    {kOutOfMemory, "cudaMalloc failed: out of memory", kDeviceMemory},
    {kOutOfMemory, "hipMalloc failed", kDeviceMemory},
    {kOutOfMemory, "ROCm error: out of memory", kDeviceMemory},
    {kOutOfMemory, "CUDA error: out of memory", kDeviceMemory},
    {kOutOfMemory, "amdgpu_vm_validate() failed.", kDeviceMemory},
    {kOutOfMemory, "Not enough memory for command submission!", kDeviceMemory},
    {kOutOfMemory, "failed to allocate buffer for kv cache", kKvMemory},
    {kOutOfMemory, "failed to allocate compute *buffers", {}},
    {kOutOfMemory, "failed to allocate * buffer of size", {}},
    {kOutOfMemory, "failed to allocate buffer of size", {}},
    {kOutOfMemory, "unable to allocate * buffer", {}},
    {kOutOfMemory, "std::bad_alloc", {}},

    {kGpuHang, "HW Exception by GPU node*GPU Hang", {}},
    {kGpuHang, "Memory access fault by GPU node*Generic hang recovery", {}},
    {kGpuHang, "ring comp_*timeout", {}},
    {kGpuFault, "Memory access fault by GPU node*ECC failure", kGpuMemoryError},
    {kGpuFault, "Memory access fault by GPU node", {}},
    {kGpuFault, "Memory critical error by agent", kGpuMemoryError},
    {kGpuFault, "ggml_vulkan: device fault on", {}},
    {kGpuFault, "GCVM_L2_PROTECTION_FAULT_STATUS", {}},
    {kGpuFault, "[gfxhub] page fault", {}},
    {kLoadFailed, "HSA_STATUS_ERROR_OUT_OF_RESOURCES", kPermission},
    {kDeviceLost, "ggml_vulkan: device lost on", {}},
    {kDeviceLost, "vk::DeviceLostError", {}},
    {kDeviceLost, "ErrorDeviceLost", {}},
    {kDeviceLost, "The CS has been cancelled because the context is lost", {}},
    {kGpuFault, "ROCm error", {}},
    {kGpuFault, "CUDA error", {}},

    {kLoadFailed, "error while loading shared libraries", kLibrary},
    {kLoadFailed, "failed to reload model after sleeping", {}},
    {kLoadFailed, "failed to load draft model", kDraft},
    {kLoadFailed, "failed to load multimodal model", kProjectorLoad},
    {kCrash, "GGML_ASSERT(", {}},
    {kCrash, "Compute error.", {}},
    {kCrash, "failed to compute graph, compute status", {}},
    {kLoadFailed, "failed to create_context with model", {}},
    {kLoadFailed, "failed to load model, '", {}},
    {kLoadFailed, "error loading model: ", {}},
    {kLoadFailed, "exiting due to model loading error", {}},
});

// The engine goes on after these, so what went wrong before them is not why it died.
constexpr auto kOvercome = std::to_array<std::string_view>({
    "compute buffer allocation failed, retrying without pipeline parallelism",
    "failed to fit params to free device memory",
    "encountered an error while trying to fit params to free device memory",
    "failed to find free space in the KV cache, retrying with smaller batch size",
    "model loaded",
    "listening on http",
});

bool matches(std::string_view line, std::string_view pattern) {
  while (true) {
    const std::size_t star = pattern.find('*');
    const std::size_t at = line.find(pattern.substr(0, star));
    if (at == std::string_view::npos) return false;
    if (star == std::string_view::npos) return true;
    line.remove_prefix(at + star);
    pattern.remove_prefix(star + 1);
  }
}

// "0.00.110.615 E srv  load_model: ..." without the time and the level.
std::string_view without_prefix(std::string_view line) {
  const std::size_t end = line.find(' ');
  if (end == std::string_view::npos || line.size() < end + 3 || line[end + 2] != ' ') return line;
  const std::string_view stamp = line.substr(0, end);
  const bool time = std::count(stamp.begin(), stamp.end(), '.') == 3 &&
                    stamp.find_first_not_of("0123456789.") == std::string_view::npos;
  return time && std::isupper(static_cast<unsigned char>(line[end + 1])) != 0 ? line.substr(end + 3)
                                                                              : line;
}

std::span<const std::string> after_what_was_overcome(std::span<const std::string> lines) {
  for (std::size_t i = lines.size(); i > 0; --i) {
    const bool overcome = std::any_of(kOvercome.begin(), kOvercome.end(), [&](auto mark) {
      return lines[i - 1].find(mark) != std::string::npos;
    });
    if (overcome) return lines.subspan(i);
  }
  return lines;
}

std::optional<Failure> failure_in_log(std::span<const std::string> lines) {
  for (const Rule& rule : kRules) {
    for (const std::string& line : lines) {
      if (!matches(line, rule.pattern)) continue;
      const std::string_view summary = rule.summary.empty() ? summary_of(rule.cls) : rule.summary;
      return Failure{rule.cls, std::string(summary), std::string(without_prefix(line))};
    }
  }
  return std::nullopt;
}

// The last line that says something.
std::string last_words(std::span<const std::string> lines) {
  for (std::size_t i = lines.size(); i > 0; --i) {
    const std::string_view line = without_prefix(lines[i - 1]);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) return std::string(line);
  }
  return {};
}

// A wrapper script reports a signal as 128 + its number.
int signal_of(const ExitStatus& status) {
  return status.signal != 0 ? status.signal : std::max(0, status.code - 128);
}

Failure failure_of_status(const ExitStatus& status, Phase phase) {
  const int signal = signal_of(status);
  if (phase == Phase::kStopping) {
    return {kCrash, fmt::format("The engine did not stop cleanly: {}.", status.describe()), {}};
  }
  if (signal == SIGKILL) {
    return {kOutOfMemory,
            "The engine was killed from outside, most often by the kernel because memory ran out "
            "(see `dmesg`): lower n_ctx, choose a smaller model, or unload another one.",
            {}};
  }
  if (signal == SIGILL) {
    return {kCrash,
            "The engine uses instructions that this CPU lacks: run `make engine` again, or set "
            "llama_server in [engines] to one built for this machine.",
            {}};
  }
  if (signal == 0 && (status.code == 126 || status.code == 127)) {
    return {kLoadFailed,
            "The engine's program could not be executed: run `make engine` again, or correct "
            "llama_server in [engines].",
            {}};
  }
  if (signal == 0 && phase == Phase::kStarting) {
    return {kLoadFailed, std::string(summary_of(kLoadFailed)), {}};
  }
  return {kCrash,
          fmt::format("The engine ended with {}: see its log with `yoke logs`.", status.describe()),
          {}};
}

}  // namespace

std::string_view name_of(FailureClass cls) {
  switch (cls) {
    case kBadModel:
      return "bad_model";
    case kBadArguments:
      return "bad_arguments";
    case kPortTaken:
      return "port_taken";
    case kOutOfMemory:
      return "out_of_memory";
    case kDeviceLost:
      return "device_lost";
    case kGpuFault:
      return "gpu_fault";
    case kGpuHang:
      return "gpu_hang";
    case kWrongOutput:
      return "wrong_output";
    case kCrash:
      return "crash";
    case kLoadFailed:
      return "load_failed";
    case kStartTimeout:
      return "start_timeout";
    case kWorkerLost:
      return "worker_lost";
  }
  return "unknown";
}

std::string_view summary_of(FailureClass cls) {
  switch (cls) {
    case kBadModel:
      return "The model file can't be loaded: check model_path, or download the file again.";
    case kBadArguments:
      return "The engine refused an option: correct the model's extra_args.";
    case kPortTaken:
      return "The engine's port was taken by another program.";
    case kOutOfMemory:
      return "Memory ran out: lower n_ctx or n_ubatch, choose a smaller model, or unload another "
             "one.";
    case kDeviceLost:
      return "The GPU's driver gave up the engine's work: lower n_ubatch, or update the driver.";
    case kGpuFault:
      return "The GPU's driver reported a fault: update the driver, or use another backend.";
    case kGpuHang:
      return "The GPU hung: lower n_ubatch, update the driver, or use another backend.";
    case kWrongOutput:
      return "The engine computes wrong answers on this backend: use another one.";
    case kCrash:
      return "The engine crashed: see its log with `yoke logs`.";
    case kLoadFailed:
      return "The engine could not load the model: see its log with `yoke logs`.";
    case kStartTimeout:
      return "The model was not ready in time: see its log with `yoke logs`.";
    case kWorkerLost:
      return "A machine of the cluster is gone: check its power and network.";
  }
  return "The engine failed.";
}

Failure classify_failure(const ExitStatus& status, std::span<const std::string> last_log_lines,
                         Phase phase) {
  const auto lines = after_what_was_overcome(last_log_lines);
  if (auto failure = failure_in_log(lines)) return *std::move(failure);
  Failure failure = failure_of_status(status, phase);
  failure.evidence_line = last_words(lines);
  return failure;
}

}  // namespace yoke::engines
