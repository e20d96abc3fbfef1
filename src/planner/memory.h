// What an engine will allocate where, once it is said which layer lies on which device. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/model_shape.h"

namespace yoke::planner {

// As the engine is started; everything decided, nothing "auto".
struct RunOptions {
  std::uint64_t n_ctx = 8192;  // Tokens; 0: what the model was trained for.
  std::uint64_t n_batch = 2048;
  std::uint64_t n_ubatch = 512;
  std::uint64_t sequences = 1;  // --parallel
  bool unified_cache = true;    // --kv-unified: all sequences share n_ctx.
  bool flash_attention = true;
  bool mmap = true;  // Weights on the CPU are then pages of the file.
  std::string cache_type_k = "f16";
  std::string cache_type_v = "f16";
  bool embeddings = false;  // --embeddings; taken for granted of a model that can do nothing else.
  std::uint64_t outputs = 0;  // Of one batch, tokens that the server wants results of at most; 0:
                              // as llama-server, one for each sequence, or all for embeddings.
};

enum class DeviceKind { kCpu, kGpu, kRemote };  // kRemote: behind an RPC server.

struct PlacedDevice {
  DeviceKind kind = DeviceKind::kGpu;
  std::string backend;  // "vulkan", "rocm", "cuda", "cpu": what computes there.
};

// Device 0 is always the host's CPU; it may hold no layer.
struct Placement {
  std::vector<PlacedDevice> devices;
  std::vector<std::uint32_t> layer_device;  // Index into `devices`, by layer.
  std::uint32_t output_device = 0;
};

// Bytes that one device holds.
struct DeviceMemory {
  std::uint64_t weights = 0;
  std::uint64_t kv = 0;       // Keys and values.
  std::uint64_t state = 0;    // Of recurrent layers.
  std::uint64_t compute = 0;  // Intermediate results of one ubatch, the largest at one time.
  std::uint64_t output = 0;   // Results handed to the server; host only.
  std::uint64_t total() const { return weights + kv + state + compute + output; }
};

struct MemoryEstimate {
  std::vector<DeviceMemory> devices;  // As in the placement.
  std::vector<std::string> notes;     // What is not certain, one sentence each.
};

// kModelUnplannable: a placement or options that don't fit the shape, or that the engine refuses (a
// quantized V cache without flash attention).
Result<MemoryEstimate> estimate_memory(const ModelShape& shape, const RunOptions& options,
                                       const Placement& placement);

}  // namespace yoke::planner
