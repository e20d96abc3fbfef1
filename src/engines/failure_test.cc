#include "engines/failure.h"

#include <csignal>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::engines {
namespace {

using enum FailureClass;
using testing::HasSubstr;
using testing::StartsWith;

constexpr ExitStatus kExit1{.code = 1};
constexpr ExitStatus kAbort{.signal = SIGABRT};
constexpr ExitStatus kKilled{.signal = SIGKILL};

Failure classify(const ExitStatus& status, const std::vector<std::string>& lines,
                 Phase phase = Phase::kStarting) {
  return classify_failure(status, lines, phase);
}

struct Signature {
  FailureClass cls;
  std::string line;
};

void PrintTo(const Signature& signature, std::ostream* out) { *out << signature.line; }

class FailureSignature : public testing::TestWithParam<Signature> {};

// Each line as the engine or driver writes it, in its usual surroundings.
TEST_P(FailureSignature, IsRecognized) {
  const Failure failure =
      classify(kAbort,
               {"0.00.019.735 I srv    load_model: loading model 'm.gguf'",
                "0.00.110.615 E " + GetParam().line,
                "0.00.110.701 I srv    operator(): operator(): cleaning up before exit..."},
               Phase::kReady);
  EXPECT_EQ(name_of(failure.cls), name_of(GetParam().cls));
  EXPECT_EQ(failure.evidence_line, GetParam().line);
  EXPECT_NE(failure.summary, "");
}

INSTANTIATE_TEST_SUITE_P(
    LlamaCpp, FailureSignature,
    testing::Values(
        Signature{kPortTaken,
                  "srv  start: couldn't bind HTTP server socket, hostname: 127.0.0.1, "
                  "port: 8080"},
        Signature{kPortTaken, "srv  llama_server: exiting due to HTTP server error"},
        Signature{kLoadFailed, "error loading model: done_getting_tensors: something unknown"},
        Signature{kLoadFailed, "srv  llama_server: exiting due to model loading error"},
        Signature{kLoadFailed, "srv    load_model: failed to load model, 'm.gguf'"},
        Signature{kLoadFailed, "srv    load_model: failed to create_context with model 'm.gguf'"},
        Signature{kLoadFailed, "llama_model_load: error loading model: something new"},
        Signature{kLoadFailed, "srv    load_model: failed to load draft model, 'd.gguf'"},
        Signature{kLoadFailed, "srv    load_model: failed to load multimodal model, 'p.gguf'"},
        Signature{kLoadFailed, "server-context.cpp:916: failed to reload model after sleeping"},
        Signature{kBadArguments, "error: invalid argument: --no-mmap"},
        Signature{kBadArguments, "error while handling argument \"--port\": stoi"},
        Signature{kBadArguments, "error while handling environment variable \"LLAMA_ARG_FIT\": x"},
        Signature{kBadArguments,
                  "error while handling argument \"--draft\": the argument has been "
                  "removed. use --spec-draft-n-max or --spec-ngram-mod-n-max"},
        Signature{kCrash, "ggml.c:1: GGML_ASSERT(n > 0) failed"},
        Signature{kCrash, "srv  update_slots: Compute error. off = 0, n_batch = 2048, ret = -3"},
        Signature{kCrash, "process_ubatch: failed to compute graph, compute status: -1"}));

INSTANTIATE_TEST_SUITE_P(
    ModelFile, FailureSignature,
    testing::Values(
        Signature{kBadModel,
                  "gguf_init_from_file: failed to open GGUF file 'm.gguf' (No such file "
                  "or directory)"},
        Signature{kBadModel,
                  "gguf_init_from_reader: invalid magic characters: 'hell', expected "
                  "'GGUF'"},
        Signature{kBadModel,
                  "llama_model_load: error loading model: unknown model architecture: "
                  "'new'"},
        Signature{kBadModel,
                  "llama_model_load: error loading model: missing tensor "
                  "'token_embd.weight'"},
        Signature{kBadModel,
                  "done_getting_tensors: wrong number of tensors; expected 272, got 271"},
        Signature{kBadModel, "corrupted model: 272 tensors expected but 270 found"},
        Signature{kBadModel,
                  "illegal split file idx: 1 (file: m-00002-of-00003.gguf), model must "
                  "be loaded with the first split"},
        Signature{kBadModel,
                  "tensor 'blk.1.attn_q.weight' data is not within the file bounds, "
                  "model is corrupted or incomplete"},
        Signature{kBadModel, "CLIP cannot be used as main model, use it with --mmproj instead"},
        Signature{kBadModel, "gguf_init_from_reader: bad GGUF version: 0"},
        Signature{kBadModel, "GGUFv1 is no longer supported, please use a more up-to-date version"},
        Signature{kBadModel,
                  "this GGUF file is version 9 but this software only supports up to "
                  "version 3"},
        Signature{kBadModel,
                  "failed to load model: this GGUF file version 50331648 is extremely "
                  "large, is there a mismatch between the host and model endianness?"},
        Signature{kBadModel, "gguf_init_from_reader: failed to read tensor data"},
        Signature{kBadModel, "gguf_init_from_reader: failed to read tensor info"},
        Signature{kBadModel, "gguf_init_from_reader: failed to read key-value pairs"},
        Signature{kBadModel, "gguf_init_from_reader: failed to read header"},
        Signature{kBadModel, "gguf_init_from_reader: failed to read magic"},
        Signature{kBadModel,
                  "error loading model hyperparameters: key not found in model: "
                  "llama.context_length"},
        Signature{kBadModel, "key not found in model: llama.block_count"},
        Signature{kBadModel, "invalid split file idx: 2 (file: m.gguf), expected 1"},
        Signature{kBadModel, "missing key split.no in GGUF split m-00002-of-00003.gguf"},
        Signature{kBadModel, "error loading model hyperparameters: bad value"},
        Signature{kBadModel, "error loading model vocabulary: unknown pre-tokenizer type: 'x'"}));

INSTANTIATE_TEST_SUITE_P(
    Memory, FailureSignature,
    testing::Values(
        Signature{kOutOfMemory, "ggml_vulkan: Device memory allocation of size 4294967296 failed."},
        Signature{kOutOfMemory, "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"},
        Signature{kOutOfMemory, "ggml_vulkan: Memory allocation of size 1024 failed."},
        Signature{kOutOfMemory, "Requested buffer size exceeds device buffer size limit"},
        Signature{kOutOfMemory, "No suitable memory type found"},
        Signature{kOutOfMemory,
                  "allocating 4096.00 MiB on device 0: cudaMalloc failed: out of "
                  "memory"},
        Signature{kOutOfMemory, "ROCm error: out of memory"},
        Signature{kOutOfMemory, "CUDA error: out of memory"},
        Signature{kOutOfMemory,
                  "ggml_gallocr_reserve_n: failed to allocate Vulkan0 buffer of size "
                  "1073741824"},
        Signature{kOutOfMemory,
                  "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate "
                  "buffer of size 123"},
        Signature{kOutOfMemory, "unable to allocate Vulkan0 buffer"},
        Signature{kOutOfMemory, "failed to allocate buffer for kv cache"},
        Signature{kOutOfMemory, "failed to allocate compute pp buffers"},
        Signature{kOutOfMemory, "llama_init_from_model: failed to allocate compute buffers"},
        Signature{kOutOfMemory, "terminate called after throwing an instance of 'std::bad_alloc'"},
        Signature{kOutOfMemory, "hipMalloc failed: hipErrorOutOfMemory"},
        Signature{kOutOfMemory, "vkAllocateMemory failed: VK_ERROR_OUT_OF_DEVICE_MEMORY"},
        Signature{kOutOfMemory, "vkAllocateMemory failed: VK_ERROR_OUT_OF_HOST_MEMORY"},
        Signature{kOutOfMemory, "hipErrorOutOfMemory"},
        Signature{kOutOfMemory, "failed to allocate compute tg buffers"},
        Signature{kOutOfMemory, "[drm] amdgpu_vm_validate() failed."},
        Signature{kOutOfMemory, "[drm] Not enough memory for command submission!"}));

INSTANTIATE_TEST_SUITE_P(
    Gpu, FailureSignature,
    testing::Values(
        Signature{kGpuFault,
                  "Memory access fault by GPU node-1 (Agent handle: 0x55) on address "
                  "0x7f. Reason: Page not present or supervisor privilege."},
        Signature{kGpuFault, "Memory access fault by GPU node-1 on address 0x7f. Reason: Unknown."},
        Signature{kGpuFault,
                  "Memory access fault by GPU node-1 (Agent handle: 0x55) on address "
                  "0x7f. Reason: DRAM ECC failure."},
        Signature{kGpuHang,
                  "Memory access fault by GPU node-1 (Agent handle: 0x55) on address "
                  "0x7f. Reason: Generic hang recovery."},
        Signature{kGpuHang, "HW Exception by GPU node-1 (Agent handle: 0x55) reason :GPU Hang"},
        Signature{kGpuHang, "amdgpu 0000:c5:00.0: ring comp_1.1.0 timeout, signaled seq=1"},
        Signature{kGpuFault,
                  "Memory critical error by agent node-0 (Agent handle: 0x55) on address "
                  "0x7f. Reason: Memory in use."},
        Signature{kLoadFailed, "HSA_STATUS_ERROR_OUT_OF_RESOURCES: The runtime failed to allocate"},
        Signature{kDeviceLost,
                  "ggml_vulkan: device lost on Vulkan0, likely caused by previous "
                  "submission (nodes 0 to 99):"},
        Signature{kGpuFault,
                  "Memory access fault by GPU node-1 (Agent handle: 0x7f3c) on address "
                  "0x7f0000. Reason: Write access to a read-only page."},
        Signature{kGpuFault,
                  "Memory access fault by GPU node-1 (Agent handle: 0x7f3c) on address "
                  "0x7f0000. Reason: Execute access to a page marked NX."},
        Signature{kGpuFault,
                  "Memory access fault by GPU node-1 (Agent handle: 0x7f3c) on address "
                  "0x7f0000. Reason: Host access only."},
        Signature{kGpuFault,
                  "Memory access fault by GPU node-1 (Agent handle: 0x7f3c) on address "
                  "0x7f0000. Reason: SRAM ECC failure."},
        Signature{kGpuFault,
                  "Memory access fault by GPU node-1 (Agent handle: 0x7f3c) on address "
                  "0x7f0000. Reason: Unknown."},
        Signature{kGpuHang,
                  "amdgpu 0000:c5:00.0: [drm] device wedged, but recovered through reset"},
        Signature{kDeviceLost, "ggml_vulkan: device lost on Vulkan0"},
        Signature{kDeviceLost, "vkQueueSubmit failed: VK_ERROR_DEVICE_LOST"},
        Signature{kGpuFault, "ggml/src/ggml-cuda/ggml-cuda.cu:106: ROCm error"},
        Signature{kGpuFault, "ggml/src/ggml-cuda/ggml-cuda.cu:106: CUDA error"},
        Signature{kLoadFailed,
                  "CUDA error: no kernel image is available for execution on the device"},
        Signature{kLoadFailed, "ROCm error: invalid device function"},
        Signature{kGpuFault, "ggml_vulkan: device fault on Vulkan0: page fault"},
        Signature{kDeviceLost,
                  "radv/amdgpu: The CS has been cancelled because the context is lost. "
                  "This context is guilty of a hard recovery."},
        Signature{kDeviceLost,
                  "terminate called after throwing an instance of "
                  "'vk::DeviceLostError'"},
        Signature{kDeviceLost, "  what():  vk::Queue::submit: ErrorDeviceLost"},
        Signature{kDeviceLost,
                  "srv  update_slots: decode() failed: vk::Queue::submit: "
                  "ErrorDeviceLost"},
        Signature{kGpuFault, "ROCm error: unspecified launch failure"},
        Signature{kGpuFault, "CUDA error: an illegal memory access was encountered"},
        Signature{kGpuFault, "amdgpu: [gfxhub] page fault (src_id:0 ring:24 vmid:8)"},
        Signature{kGpuFault, "amdgpu: GCVM_L2_PROTECTION_FAULT_STATUS:0x00800932"}));

class BrokenEngine : public testing::TestWithParam<std::string> {};

TEST_P(BrokenEngine, SaysSo) { EXPECT_TRUE(says_engine_is_broken(GetParam())); }

INSTANTIATE_TEST_SUITE_P(
    All, BrokenEngine,
    testing::Values("decode() failed: vk::Queue::submit: ErrorDeviceLost", "Compute error.",
                    "Compute error. off = 0, n_batch = 2048, ret = -3",
                    "failed to compute graph, compute status: -1",
                    "vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
                    "ROCm error: unspecified launch failure", "CUDA error: misaligned address",
                    "decode() failed: yoke-rpc: worker lost: desk-2 (127.0.0.1:50053)",
                    "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                    "EngineDeadError: EngineCore encountered an issue",
                    "torch.AcceleratorError: HIP error: unspecified launch failure"));

class LivingEngine : public testing::TestWithParam<std::string> {};

TEST_P(LivingEngine, OnlyRefusesTheRequest) { EXPECT_FALSE(says_engine_is_broken(GetParam())); }

INSTANTIATE_TEST_SUITE_P(
    All, LivingEngine,
    testing::Values("", "Context size has been exceeded.", "Invalid input batch.",
                    "failed to find free space in the KV cache, retrying with smaller batch size",
                    "input is too large to process. increase the physical batch size",
                    "the request exceeds the available context size, try increasing it",
                    "unauthorized: Invalid API Key", "Loading model", "failed to parse grammar",
                    "This server does not support embeddings. Start it with `--embeddings`",
                    "The decoder prompt (length 5000) is longer than the maximum model length of "
                    "2048.",
                    "max_tokens=3000 cannot be greater than max_model_len=2048.", "Unauthorized"));

class HarmlessLine : public testing::TestWithParam<std::string> {};

TEST_P(HarmlessLine, IsNoFailure) {
  const Failure failure = classify({.signal = SIGSEGV}, {GetParam()}, Phase::kReady);
  EXPECT_EQ(name_of(failure.cls), "crash");
  EXPECT_THAT(failure.summary, HasSubstr("signal 11"));
}

INSTANTIATE_TEST_SUITE_P(
    All, HarmlessLine,
    testing::Values(
        "main: model loaded", "srv  llama_server: listening on http://127.0.0.1:8080",
        "main: starting server in router mode",
        "sched_reserve: compute buffer allocation failed, retrying without pipeline parallelism",
        "common_fit_params: failed to fit params to free device memory: 1024 MiB are missing",
        "common_fit_params: encountered an error while trying to fit params to free device memory: "
        "failed to load model",
        "srv  update_slots: failed to find free space in the KV cache, retrying with smaller batch "
        "size, off = 0, n_batch = 1024, ret = 1",
        "srv  send_error: Context size has been exceeded.", "srv  send_error: Invalid input batch.",
        "srv  middleware: unauthorized: Invalid API Key",
        "  current device: 0, in function ggml_backend_cuda_synchronize at ggml-cuda.cu:2973",
        "(APIServer pid=11) ERROR 11-22 20:54:33 [serving.py:120] ValueError: The decoder prompt "
        "(length 5000) is longer than the maximum model length of 2048.",
        "INFO:     127.0.0.1:52688 - \"POST /v1/chat/completions HTTP/1.1\" 400 Bad Request",
        "(APIServer pid=11) WARNING 11-22 20:44:56 [system_utils.py:255] Found ulimit of 20000 and "
        "failed to automatically increase. This can cause fd limit errors like `OSError: [Errno "
        "24] Too many open files`.",
        "INFO:     Application startup complete.",
        "warning: failed to mlock 98304-byte buffer (after previously locking 0 bytes): Cannot "
        "allocate memory"));

TEST(ClassifyFailure, TheCauseCountsAndNotItsConsequences) {
  const Failure failure = classify(
      kExit1, {"0.00.019.896 E gguf_init_from_reader: failed to read tensor info",
               "0.00.020.034 E llama_model_load: error loading model: llama_model_loader: failed "
               "to load model from m.gguf",
               "0.00.020.067 E llama_model_load_from_file_impl: failed to load model",
               "0.00.020.336 E srv    load_model: failed to load model, 'm.gguf'",
               "0.00.020.864 E srv  llama_server: exiting due to model loading error"});
  EXPECT_EQ(failure.cls, kBadModel);
  EXPECT_EQ(failure.summary, "The model file is incomplete: download it again.");
  EXPECT_EQ(failure.evidence_line, "gguf_init_from_reader: failed to read tensor info");
}

TEST(ClassifyFailure, WhatTheEngineOvercameIsNotTheCause) {
  const std::string failed = "ggml_gallocr: failed to allocate Vulkan0 buffer of size 1073741824";
  const std::string retry =
      "sched_reserve: compute buffer allocation failed, retrying without pipeline parallelism";
  EXPECT_EQ(classify({.signal = SIGSEGV}, {failed, retry, "all is well"}).cls, kCrash);
  EXPECT_EQ(classify(kExit1, {failed, retry, failed}).cls, kOutOfMemory);
  // Nor is what went wrong before the model was ready.
  EXPECT_EQ(classify(kAbort, {failed, "main: model loaded", "ErrorDeviceLost"}, Phase::kReady).cls,
            kDeviceLost);
}

TEST(ClassifyFailure, ALostWorkerIsNamed) {
  const std::string lost =
      "0.12.345.678 E yoke-rpc: worker lost: desk-2 (127.0.0.1:50053): connection closed by the "
      "worker";
  const Failure serving = classify(
      kAbort, {"main: model loaded", lost, "srv  update_slots: Compute error."}, Phase::kReady);
  EXPECT_EQ(serving.cls, kWorkerLost);
  EXPECT_THAT(serving.summary,
              HasSubstr("The worker desk-2 (127.0.0.1:50053) is lost: connection closed by the"));
  EXPECT_THAT(serving.evidence_line, StartsWith("yoke-rpc: worker lost: desk-2"));

  const Failure loading = classify(
      kExit1, {"yoke-rpc: cannot use worker desk-3 (127.0.0.1:50054): connection refused",
               "error loading model: no such worker", "exiting due to model loading error"});
  EXPECT_EQ(loading.cls, kWorkerLost);
  EXPECT_THAT(loading.summary,
              HasSubstr("The worker desk-3 (127.0.0.1:50054) can't be used: connection refused"));
}

TEST(ClassifyFailure, WhatEndedAnEarlierProcessIsNotWhyThisOneEnded) {
  const Failure failure = classify(
      kExit1, {"yoke-rpc: worker lost: desk-2 (127.0.0.1:50053): connection closed by the worker",
               "0.00.010.522 I srv  llama_server: initializing ...",
               "yoke-rpc: cannot use worker desk-2 (127.0.0.1:50053): connection refused"});
  EXPECT_THAT(failure.summary, HasSubstr("connection refused"));
  EXPECT_EQ(classify(kExit1, {"std::bad_alloc", "srv  llama_server: initializing ..."}).cls,
            kLoadFailed);
}

TEST(ClassifyFailure, AWorkerIsLostToLlamaCppsClientToo) {
  for (const std::string line :
       {"../ggml/src/ggml-rpc/ggml-rpc.cpp:566: Remote RPC server crashed or returned malformed "
        "response",
        "../ggml/src/ggml-rpc/ggml-rpc.cpp:547: Failed to connect to 127.0.0.1:50052",
        "../ggml/src/ggml-rpc/ggml-rpc.cpp:550: RPC handshake failed for 127.0.0.1:50052"}) {
    const Failure failure = classify(kAbort, {line}, Phase::kStarting);
    EXPECT_EQ(failure.cls, kWorkerLost) << line;
    EXPECT_THAT(failure.summary, HasSubstr("ggml-rpc-server"));
    EXPECT_EQ(failure.summary.find("127.0.0.1:50052") == std::string::npos,
              line.find("127.0.0.1:50052") == std::string::npos);
  }
  EXPECT_NE(classify(kExit1, {"curl: Failed to connect to example.org"}).cls, kWorkerLost);
}

TEST(ClassifyFailure, TellsWhatTheRemovedArgumentWas) {
  const Failure failure = classify(
      kExit1, {"error while handling argument \"--draft\": the argument has been removed. use "
               "--spec-draft-n-max",
               "usage:", "to show complete usage, run with -h"});
  EXPECT_EQ(failure.cls, kBadArguments);
  EXPECT_THAT(failure.evidence_line, HasSubstr("\"--draft\""));
}

TEST(ClassifyFailure, GoesByTheExitStatusWithoutSigns) {
  EXPECT_EQ(classify(kKilled, {}, Phase::kReady).cls, kOutOfMemory);
  EXPECT_EQ(classify({.code = 137}, {}, Phase::kReady).cls, kOutOfMemory);
  EXPECT_EQ(classify({.signal = SIGSEGV}, {}, Phase::kStarting).cls, kCrash);
  EXPECT_EQ(classify({.code = 134}, {}, Phase::kReady).cls, kCrash);
  EXPECT_EQ(classify(kAbort, {}, Phase::kReady).cls, kCrash);
  EXPECT_EQ(classify(kExit1, {}, Phase::kStarting).cls, kLoadFailed);
  EXPECT_EQ(classify(kExit1, {}, Phase::kReady).cls, kCrash);
  EXPECT_EQ(classify({.code = 0}, {}, Phase::kReady).cls, kCrash);
  EXPECT_EQ(classify({.code = 127}, {}, Phase::kStarting).cls, kLoadFailed);
  EXPECT_THAT(classify({.signal = SIGILL}, {}).summary, HasSubstr("instructions that this CPU"));
  // A stop that had to be forced is not a lack of memory.
  EXPECT_EQ(classify(kKilled, {}, Phase::kStopping).cls, kCrash);
}

TEST(ClassifyFailure, QuotesTheLastWords) {
  EXPECT_EQ(classify({.signal = SIGSEGV}, {"0.00.000.524 I first", "1.02.003.004 W last", " ", ""})
                .evidence_line,
            "last");
  EXPECT_EQ(classify(kExit1, {}).evidence_line, "");
}

TEST(ClassifyFailure, NamesAMissingLibrary) {
  const std::string line =
      "llama-server: error while loading shared libraries: libgomp.so.1: cannot open shared object "
      "file: No such file or directory";
  const Failure failure = classify({.code = 127}, {line});
  EXPECT_EQ(failure.cls, kLoadFailed);
  EXPECT_EQ(failure.evidence_line, line);
  EXPECT_THAT(failure.summary, HasSubstr("library"));
}

TEST(FailureClassNames, AreStableAndEachHasASummary) {
  const std::vector<std::pair<FailureClass, std::string_view>> names{
      {kBadModel, "bad_model"},
      {kBadArguments, "bad_arguments"},
      {kPortTaken, "port_taken"},
      {kOutOfMemory, "out_of_memory"},
      {kDeviceLost, "device_lost"},
      {kGpuFault, "gpu_fault"},
      {kGpuHang, "gpu_hang"},
      {kWrongOutput, "wrong_output"},
      {kCrash, "crash"},
      {kLoadFailed, "load_failed"},
      {kStartTimeout, "start_timeout"},
      {kWorkerLost, "worker_lost"}};
  std::set<std::string_view> summaries;
  for (const auto& [cls, name] : names) {
    EXPECT_EQ(name_of(cls), name);
    summaries.insert(summary_of(cls));
  }
  EXPECT_EQ(summaries.size(), names.size());
}

TEST(ClassifyFailure, ADriverThatIsTooOldForTheCudaModuleIsNoFault) {
  const std::vector<std::string> log{
      "0.00.900.100 E CUDA error: the provided PTX was compiled with an unsupported toolchain.",
      "0.00.900.101 E   current device: 0, in function ggml_cuda_mul at ggml-cuda.cu:108",
      "ggml-cuda.cu:108: CUDA error"};
  const Failure failure = classify_failure({.signal = SIGABRT}, log, Phase::kStarting);
  EXPECT_EQ(failure.cls, FailureClass::kLoadFailed);
  EXPECT_NE(failure.summary.find("driver"), std::string::npos);
  EXPECT_NE(failure.evidence_line.find("PTX"), std::string::npos);
}

}  // namespace
}  // namespace yoke::engines
