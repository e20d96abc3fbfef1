// ggml's RPC protocol 7.0.0, as llama.cpp v0.5.0's ggml-rpc-server speaks it: a request is a
// command (1 byte), the size of its body (8 bytes) and the body; an answer, where a command has
// one, is a size (8 bytes) and a body. Numbers are little-endian, structures packed. Values, no
// state.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rpc_pipeline {

static_assert(std::endian::native == std::endian::little, "the protocol is little-endian");

constexpr std::uint8_t kProtocolMajor = 7;
constexpr std::uint8_t kProtocolMinor = 0;

enum class Command : std::uint8_t {
  kAllocBuffer = 0,
  kGetAlignment = 1,
  kGetMaxSize = 2,
  kBufferGetBase = 3,
  kFreeBuffer = 4,
  kBufferClear = 5,
  kSetTensor = 6,
  kSetTensorHash = 7,
  kGetTensor = 8,
  kCopyTensor = 9,
  kGraphCompute = 10,
  kGetDeviceMemory = 11,
  kInitTensor = 12,
  kGetAllocSize = 13,
  kHello = 14,
  kDeviceCount = 15,
  kGraphRecompute = 16,
  kMemsetTensor = 17,
};

/// "GRAPH_COMPUTE", for log lines.
std::string_view name_of(Command command);

constexpr std::size_t kRequestHeadSize = 1 + sizeof(std::uint64_t);
constexpr std::size_t kReplyHeadSize = sizeof(std::uint64_t);

#pragma pack(push, 1)

/// A tensor as the worker sees it. Pointers of the client serve as ids; `buffer` and `data` are the
/// worker's own addresses, or 0 if the tensor lies elsewhere.
struct WireTensor {
  std::uint64_t id;
  std::uint32_t type;
  std::uint64_t buffer;
  std::uint32_t ne[4];
  std::uint32_t nb[4];
  std::uint32_t op;
  std::int32_t op_params[16];
  std::int32_t flags;
  std::uint64_t src[10];
  std::uint64_t view_src;
  std::uint64_t view_offs;
  std::uint64_t data;
  char name[64];
  std::int32_t use_count;
};

struct HelloRequest {
  std::uint8_t capabilities[24];  // Of RDMA; zeros mean plain TCP.
};
struct HelloReply {
  std::uint8_t major;
  std::uint8_t minor;
  std::uint8_t patch;
  std::uint8_t padding;
  std::uint8_t capabilities[24];
};
struct DeviceRequest {  // GET_ALIGNMENT, GET_MAX_SIZE, GET_DEVICE_MEMORY, GRAPH_RECOMPUTE
  std::uint32_t device;
};
struct DeviceCountReply {
  std::uint32_t count;
};
struct NumberReply {  // GET_ALIGNMENT, GET_MAX_SIZE, BUFFER_GET_BASE, GET_ALLOC_SIZE
  std::uint64_t value;
};
struct MemoryReply {
  std::uint64_t free;
  std::uint64_t total;
};
struct AllocRequest {
  std::uint32_t device;
  std::uint64_t size;
};
struct AllocReply {
  std::uint64_t buffer;  // 0: the worker has no room for it.
  std::uint64_t size;
};
struct BufferRequest {  // BUFFER_GET_BASE, FREE_BUFFER
  std::uint64_t buffer;
};
struct ClearRequest {
  std::uint64_t buffer;
  std::uint8_t value;
};
struct AllocSizeRequest {
  std::uint32_t device;
  WireTensor tensor;
  WireTensor sources[10];
};
struct TensorRequest {  // INIT_TENSOR
  WireTensor tensor;
};
struct MemsetRequest {
  WireTensor tensor;
  std::uint64_t offset;
  std::uint64_t size;
  std::uint8_t value;
};
struct SetTensorHead {  // SET_TENSOR; the data follows.
  WireTensor tensor;
  std::uint8_t keep;  // 1: the worker keeps a copy in its cache.
  std::uint64_t offset;
};
struct SetTensorHashRequest {
  WireTensor tensor;
  std::uint64_t offset;
  std::uint64_t hash;
};
struct GetTensorRequest {
  WireTensor tensor;
  std::uint64_t offset;
  std::uint64_t size;
};
struct CopyTensorRequest {
  WireTensor source;
  WireTensor destination;
};
struct FlagReply {  // SET_TENSOR_HASH: 1 if the worker had it; COPY_TENSOR: 1 if it could.
  std::uint8_t flag;
};

#pragma pack(pop)

static_assert(sizeof(WireTensor) == 296);
static_assert(sizeof(SetTensorHead) == 305);
static_assert(sizeof(AllocSizeRequest) == 4 + 11 * sizeof(WireTensor));

}  // namespace rpc_pipeline
