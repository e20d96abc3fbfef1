#include "rpc_pipeline/wire.h"

namespace rpc_pipeline {

std::string_view name_of(Command command) {
  switch (command) {
    case Command::kAllocBuffer:
      return "ALLOC_BUFFER";
    case Command::kGetAlignment:
      return "GET_ALIGNMENT";
    case Command::kGetMaxSize:
      return "GET_MAX_SIZE";
    case Command::kBufferGetBase:
      return "BUFFER_GET_BASE";
    case Command::kFreeBuffer:
      return "FREE_BUFFER";
    case Command::kBufferClear:
      return "BUFFER_CLEAR";
    case Command::kSetTensor:
      return "SET_TENSOR";
    case Command::kSetTensorHash:
      return "SET_TENSOR_HASH";
    case Command::kGetTensor:
      return "GET_TENSOR";
    case Command::kCopyTensor:
      return "COPY_TENSOR";
    case Command::kGraphCompute:
      return "GRAPH_COMPUTE";
    case Command::kGetDeviceMemory:
      return "GET_DEVICE_MEMORY";
    case Command::kInitTensor:
      return "INIT_TENSOR";
    case Command::kGetAllocSize:
      return "GET_ALLOC_SIZE";
    case Command::kHello:
      return "HELLO";
    case Command::kDeviceCount:
      return "DEVICE_COUNT";
    case Command::kGraphRecompute:
      return "GRAPH_RECOMPUTE";
    case Command::kMemsetTensor:
      return "MEMSET_TENSOR";
  }
  return "?";
}

}  // namespace rpc_pipeline
