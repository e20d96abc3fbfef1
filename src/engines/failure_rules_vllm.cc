#include <array>

#include "engines/failure_rules.h"

namespace yoke::engines {
namespace {

using enum FailureClass;

constexpr std::string_view kContext = "n_ctx is more than the model was made for: lower it.";
constexpr std::string_view kNoModel =
    "The directory is no HuggingFace model: it has no valid config.json. Check model_path.";
constexpr std::string_view kIncomplete =
    "The model's weights are incomplete: download the directory again.";
constexpr std::string_view kNoTokenizer =
    "The model's directory lacks its tokenizer or another file: download all of it.";
constexpr std::string_view kNewerEngine =
    "This vLLM does not know the model's architecture: install a newer one, or an older for a "
    "model "
    "it has dropped.";
constexpr std::string_view kRemoteCode =
    "The model brings code of its own: if you trust it, add \"--trust-remote-code\" to the model's "
    "extra_args.";
constexpr std::string_view kGpuMemory =
    "The GPU ran out of memory: lower n_ctx or parallel, choose a smaller model, or unload another "
    "one.";
constexpr std::string_view kUtilization =
    "Other programs hold too much of the GPU's memory: unload other models, or lower "
    "gpu_memory_utilization.";
constexpr std::string_view kCache =
    "Beside the weights too little memory is left for the context: lower n_ctx or parallel, or "
    "raise "
    "gpu_memory_utilization.";
constexpr std::string_view kNoSpace =
    "A disk or /dev/shm is full: make room, and in a container give it more shared memory.";
constexpr std::string_view kWrongBuild =
    "This vLLM was not built for the GPU: install one that was, or `yoke engine install vllm "
    "--backend cpu`.";
constexpr std::string_view kNoDevice =
    "vLLM finds no GPU that it can use: `yoke doctor` says what is missing; for the CPU `yoke "
    "engine "
    "install vllm --backend cpu`.";
constexpr std::string_view kModules =
    "A part of vLLM's environment is missing: run `yoke engine install vllm` again.";
constexpr std::string_view kEngineCore = "vLLM's engine core died: see its log with `yoke logs`.";

constexpr auto kRules = std::to_array<FailureRule>({
    {kPortTaken, "[Errno 98] Address already in use", {}},

    {kBadArguments, "vllm: error: ", {}},
    {kBadArguments, "User-specified max_model_len (*) is greater than the derived", kContext},
    {kBadArguments, "trust_remote_code=True", kRemoteCode},

    {kBadModel, "Invalid repository ID or local directory specified", kNoModel},
    {kBadModel, "It looks like the config file at *is not a valid JSON file", kNoModel},
    {kBadModel, "is not a local folder and is not a valid model identifier", kNoModel},
    {kBadModel, "does not recognize this architecture", kNewerEngine},
    {kBadModel, "Model architectures * are not supported for now", kNewerEngine},
    {kBadModel, "was supported in vLLM until", kNewerEngine},
    {kBadModel, "is not supported in-tree anymore", kNewerEngine},
    {kBadModel, "Cannot find any model weights with", kIncomplete},
    {kBadModel, "SafetensorError: ", kIncomplete},
    {kBadModel, "Following weights were not initialized from", kIncomplete},
    {kBadModel, "There is no module or parameter named", kIncomplete},
    {kBadModel, "Couldn't instantiate the backend tokenizer", kNoTokenizer},
    {kBadModel, "Can't load tokenizer for", kNoTokenizer},
    {kBadModel, "does not appear to have a file named", kNoTokenizer},

    {kOutOfMemory, "HIP out of memory", kGpuMemory},
    {kOutOfMemory, "CUDA out of memory", kGpuMemory},
    {kOutOfMemory, "torch.OutOfMemoryError", kGpuMemory},
    {kOutOfMemory, "HIP error: out of memory", kGpuMemory},
    {kOutOfMemory, "is less than desired GPU memory utilization", kUtilization},
    {kOutOfMemory, "exceed the desired GPU memory utilization", kUtilization},
    {kOutOfMemory, "is less than the engine's budget", kUtilization},
    {kOutOfMemory, "No available memory for the cache blocks", kCache},
    {kOutOfMemory, "To serve at least one request with the model", kCache},
    {kOutOfMemory, "is larger than the maximum number of tokens that can be stored", kCache},
    {kOutOfMemory, "DefaultCPUAllocator: can't allocate memory", {}},
    {kOutOfMemory, "[Errno 12] Cannot allocate memory", {}},
    {kLoadFailed, "[Errno 28] No space left on device", kNoSpace},

    {kLoadFailed, "HIP error: invalid device function", kWrongBuild},
    {kLoadFailed, "hipErrorNoBinaryForGpu", kWrongBuild},
    {kLoadFailed, "Failed to infer device type", kNoDevice},
    {kLoadFailed, "No HIP GPUs are available", kNoDevice},
    {kLoadFailed, "No CUDA GPUs are available", kNoDevice},
    {kLoadFailed, "Found no NVIDIA driver on your system", kNoDevice},
    {kGpuFault, "HIP error: ", {}},
    {kGpuFault, "CUDA error: ", {}},

    {kLoadFailed, "ImportError: *cannot open shared object file", kModules},
    {kLoadFailed, "ModuleNotFoundError: No module named", kModules},
    {kLoadFailed, "failed to be inspected", {}},
    {kLoadFailed, "Engine core initialization failed", {}},
    {kLoadFailed, "WorkerProc initialization failed", {}},
    {kCrash, "EngineDeadError", kEngineCore},
    {kCrash, "EngineCore encountered a fatal error", kEngineCore},
    {kCrash, "died unexpectedly", kEngineCore},
});

}  // namespace

std::span<const FailureRule> vllm_failures() { return kRules; }

}  // namespace yoke::engines
