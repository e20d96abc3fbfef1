// The part of failure.h that is about vLLM.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/failure.h"

namespace yoke::engines {
namespace {

using enum FailureClass;
using testing::HasSubstr;

constexpr ExitStatus kExit1{.code = 1};

Failure classify(const ExitStatus& status, const std::vector<std::string>& lines,
                 Phase phase = Phase::kStarting) {
  return classify_failure(status, lines, phase);
}

// As vLLM and PyTorch write them, with the prefixes that lines of their processes have.
struct VllmSignature {
  FailureClass cls;
  std::string line;
  std::string summary;  // A part of it.
};

void PrintTo(const VllmSignature& signature, std::ostream* out) { *out << signature.line; }

class VllmFailure : public testing::TestWithParam<VllmSignature> {};

TEST_P(VllmFailure, IsRecognizedBeforeItsConsequences) {
  const Failure failure = classify(
      kExit1,
      {"(APIServer pid=11) INFO 11-22 20:44:56 [api_utils.py:286] non-default args: {'port': 1}",
       "(Worker pid=31) ERROR 11-22 21:17:04 [multiproc_executor.py:953]     raise ValueError(",
       "(Worker pid=31) ERROR 11-22 21:17:04 [multiproc_executor.py:953] " + GetParam().line,
       "(EngineCore pid=21) ERROR 11-22 21:17:05 [core.py:1512] RuntimeError: Worker failed",
       "    raise RuntimeError(",
       "RuntimeError: Engine core initialization failed. See root cause above. Failed core "
       "proc(s): {}"});
  EXPECT_EQ(name_of(failure.cls), name_of(GetParam().cls));
  EXPECT_EQ(failure.evidence_line, GetParam().line);
  EXPECT_THAT(failure.summary, HasSubstr(GetParam().summary));
}

INSTANTIATE_TEST_SUITE_P(
    Start, VllmFailure,
    testing::Values(
        VllmSignature{kPortTaken, "OSError: [Errno 98] Address already in use", "port"},
        VllmSignature{kBadArguments, "vllm: error: unrecognized arguments: --no-such-flag",
                      "extra_args"},
        VllmSignature{kBadArguments,
                      "  Value error, User-specified max_model_len (100000) is greater than the "
                      "derived max_model_len (max_position_embeddings=8192.0 or "
                      "model_max_length=None in model's config.json).",
                      "n_ctx"},
        VllmSignature{kBadArguments,
                      "requires you to execute the configuration file in that repo; set "
                      "`trust_remote_code=True` in LLM or use the `--trust-remote-code` flag",
                      "--trust-remote-code"},
        VllmSignature{kBadModel,
                      "  Value error, Invalid repository ID or local directory specified: '/m'.",
                      "config.json"},
        VllmSignature{kBadModel,
                      "OSError: It looks like the config file at '/m/config.json' is not a valid "
                      "JSON file.",
                      "config.json"},
        VllmSignature{kBadModel,
                      "OSError: m is not a local folder and is not a valid model identifier",
                      "model_path"},
        VllmSignature{kBadModel,
                      "  Value error, The checkpoint you are trying to load has model type `foo` "
                      "but Transformers does not recognize this architecture.",
                      "newer"},
        VllmSignature{kBadModel,
                      "  Value error, Model architectures ['FooForCausalLM'] are not supported for "
                      "now. Supported architectures: dict_keys([])",
                      "newer"},
        VllmSignature{kBadModel,
                      "ValueError: Model architecture X was supported in vLLM until v0.10.2, and "
                      "is not supported anymore.",
                      "older"},
        VllmSignature{kBadModel, "RuntimeError: Cannot find any model weights with `/m`",
                      "weights"},
        VllmSignature{kBadModel,
                      "safetensors._safetensors_rust.SafetensorError: Error while deserializing "
                      "header: incomplete metadata, file not fully covered",
                      "download"},
        VllmSignature{kBadModel,
                      "ValueError: Following weights were not initialized from checkpoint: {'a'}",
                      "incomplete"},
        VllmSignature{
            kBadModel,
            "ValueError: Couldn't instantiate the backend tokenizer from one of: ", "tokenizer"},
        VllmSignature{kBadModel, "OSError: Can't load tokenizer for '/m'.", "tokenizer"},
        VllmSignature{kBadModel,
                      "OSError: /m does not appear to have a file named preprocessor_config.json.",
                      "file"},
        VllmSignature{kLoadFailed, "ModuleNotFoundError: No module named 'xgrammar'",
                      "yoke engine install vllm"},
        VllmSignature{kLoadFailed,
                      "ImportError: libnuma.so.1: cannot open shared object file: No such file or "
                      "directory",
                      "environment"},
        VllmSignature{kLoadFailed,
                      "RuntimeError: Failed to infer device type, please set the environment "
                      "variable `VLLM_LOGGING_LEVEL=DEBUG`",
                      "doctor"},
        VllmSignature{kLoadFailed, "RuntimeError: No HIP GPUs are available", "doctor"},
        VllmSignature{kLoadFailed,
                      "ValueError: Model architectures ['A'] failed to be inspected. Please check "
                      "the logs for more details.",
                      "yoke logs"},
        VllmSignature{kLoadFailed, "OSError: [Errno 28] No space left on device", "/dev/shm"}));

INSTANTIATE_TEST_SUITE_P(
    Gpu, VllmFailure,
    testing::Values(
        VllmSignature{kOutOfMemory,
                      "ValueError: Free memory on device cuda:0 (3.1/23.6 GiB) on startup is less "
                      "than desired GPU memory utilization (0.92, 21.7 GiB). Decrease GPU memory "
                      "utilization or reduce GPU memory used by other processes.",
                      "gpu_memory_utilization"},
        VllmSignature{kOutOfMemory,
                      "ValueError: No available memory for the cache blocks. Try increasing "
                      "`gpu_memory_utilization` when initializing the engine",
                      "gpu_memory_utilization"},
        VllmSignature{kOutOfMemory,
                      "ValueError: To serve at least one request with the models's max seq len "
                      "(131072), (16.00 GiB KV cache is needed",
                      "n_ctx"},
        VllmSignature{
            kOutOfMemory,
            "ValueError: The model's max seq len (4096) is larger than the maximum number "
            "of tokens that can be stored in KV cache (3664).",
            "n_ctx"},
        VllmSignature{kOutOfMemory,
                      "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.",
                      "GPU"},
        VllmSignature{kOutOfMemory,
                      "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
                      "GPU"},
        VllmSignature{kOutOfMemory,
                      "RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. "
                      "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.",
                      "Memory"},
        VllmSignature{kLoadFailed, "torch.AcceleratorError: HIP error: invalid device function",
                      "not built for"},
        VllmSignature{kLoadFailed,
                      "torch.AcceleratorError: CUDA error: no kernel image is available for "
                      "execution on the device",
                      "not built for"},
        VllmSignature{kGpuFault, "torch.AcceleratorError: HIP error: unspecified launch failure",
                      "driver"},
        VllmSignature{kGpuFault,
                      "torch.AcceleratorError: CUDA error: an illegal memory access was "
                      "encountered",
                      "driver"}));

TEST(ClassifyVllmFailure, OfTheCoreIsACrash) {
  for (const char* line :
       {"vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack "
        "trace (above) for the root cause.",
        "EngineCore encountered a fatal error.",
        "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor."}) {
    const Failure failure = classify(
        {.code = 0},
        {"INFO:     Application startup complete.",
         std::string("(APIServer pid=16325) ERROR 11-22 21:10:42 [async_llm.py:906] ") + line},
        Phase::kReady);
    EXPECT_EQ(failure.cls, kCrash);
    EXPECT_THAT(failure.summary, HasSubstr("engine core"));
    EXPECT_EQ(failure.evidence_line, line);
  }
}

TEST(ClassifyVllmFailure, WhoseCauseIsUnknownIsALoadThatFailed) {
  const Failure failure = classify(
      kExit1, {"    raise RuntimeError(", "RuntimeError: Engine core initialization failed. See"});
  EXPECT_EQ(failure.cls, kLoadFailed);
  EXPECT_THAT(failure.evidence_line, HasSubstr("Engine core initialization failed"));
}

TEST(ClassifyVllmFailure, CodeOfATracebackIsNotTheEvidence) {
  const Failure failure = classify(
      kExit1, {"    raise OSError(f\"It looks like the config file at '{x}' is not a valid JSON "
               "file.\")",
               "OSError: It looks like the config file at '/m/c' is not a valid JSON file."});
  EXPECT_EQ(failure.cls, kBadModel);
  EXPECT_THAT(failure.evidence_line, testing::StartsWith("OSError: "));
}

}  // namespace
}  // namespace yoke::engines
