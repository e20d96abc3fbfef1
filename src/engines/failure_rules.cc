#include "engines/failure_rules.h"

#include <array>

namespace yoke::engines {
namespace {

using enum FailureClass;

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
constexpr std::string_view kWrongBuild =
    "This engine was not built for the GPU: install one that was, or use another backend.";
constexpr std::string_view kOlderDriver =
    "The GPU's driver is older than the engine needs: update it, or install the engine for CUDA 12 "
    "(`tools/get_llama_cpp.py --backend cuda --cuda 12`).";
constexpr std::string_view kLibrary =
    "A library that the engine needs is missing: install it, or run `make engine` again.";
constexpr std::string_view kDraft =
    "The draft model could not be loaded: check it in the model's extra_args.";
constexpr std::string_view kProjectorLoad =
    "The multimodal projector could not be loaded: check it in the model's extra_args.";
constexpr std::string_view kGpuMemoryError =
    "The GPU reported a memory error: see `dmesg`, and update the GPU's driver and firmware.";

constexpr auto kRules = std::to_array<FailureRule>({
    {kWorkerLost, "yoke-rpc: worker lost: ", {}},
    {kWorkerLost, "yoke-rpc: cannot use worker ", {}},
    {kWorkerLost, "Remote RPC server crashed or returned malformed response", {}},
    {kWorkerLost, "ggml-rpc.cpp*Failed to connect to ", {}},
    {kWorkerLost, "RPC handshake failed for ", {}},

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
    {kOutOfMemory, "VK_ERROR_OUT_OF_DEVICE_MEMORY", kDeviceMemory},
    {kOutOfMemory, "VK_ERROR_OUT_OF_HOST_MEMORY", {}},
    {kOutOfMemory, "hipErrorOutOfMemory", kDeviceMemory},
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
    {kGpuHang, "device wedged, but recovered through reset", {}},
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
    {kDeviceLost, "VK_ERROR_DEVICE_LOST", {}},
    {kDeviceLost, "The CS has been cancelled because the context is lost", {}},
    {kLoadFailed, "the provided PTX was compiled with an unsupported toolchain", kOlderDriver},
    {kLoadFailed, "no kernel image is available for execution on the device", kWrongBuild},
    {kLoadFailed, "ROCm error: invalid device function", kWrongBuild},
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

constexpr auto kOvercome = std::to_array<std::string_view>({
    "llama_server: initializing",  // The next process.
    "compute buffer allocation failed, retrying without pipeline parallelism",
    "failed to fit params to free device memory",
    "encountered an error while trying to fit params to free device memory",
    "failed to find free space in the KV cache, retrying with smaller batch size",
    "model loaded",
    "listening on http",
    "Starting vLLM server on",
    "Application startup complete.",
});

// llama-server answers a request with what its decode() threw or returned, and goes on answering
// so.
constexpr auto kBroken = std::to_array<std::string_view>({
    "ErrorDeviceLost",
    "DeviceLostError",
    "VK_ERROR_DEVICE_LOST",
    "device lost",
    "yoke-rpc",
    "ErrorOutOfDeviceMemory",
    "Compute error.",
    "failed to compute graph",
    "ROCm error",
    "CUDA error",
    "HIP error",
    "EngineDeadError",
    "EngineCore encountered an issue",
    "EngineCore encountered a fatal error",
    "Engine core initialization failed",
});

}  // namespace

std::span<const FailureRule> llama_cpp_failures() { return kRules; }
std::span<const std::string_view> overcome_marks() { return kOvercome; }
std::span<const std::string_view> broken_marks() { return kBroken; }

}  // namespace yoke::engines
