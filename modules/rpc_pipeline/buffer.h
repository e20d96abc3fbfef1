// Memory on a worker as ggml knows it: buffers and their type. ggml owns the buffers; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "ggml-backend-impl.h"
#include "rpc_pipeline/endpoint.h"

namespace rpc_pipeline {

struct RemoteDevice;

struct RemoteBuffer {
  Endpoint& endpoint;
  RemoteDevice& device;
  const std::uint64_t id;  ///< The worker's name for it.
  void* const base;        ///< An address at the worker; never read here.
};

struct RemoteMemory {
  std::uint64_t buffer = 0;   ///< As RemoteBuffer::id.
  std::uint64_t address = 0;  ///< At the worker.
  std::uint64_t size = 0;
};

/// Nothing: no room, or the worker was lost or answered nonsense (then the log says so).
std::optional<RemoteMemory> allocate(RemoteDevice& device, std::uint64_t size);

/// Null if it isn't one of ours.
const RemoteBuffer* remote_buffer(ggml_backend_buffer_t buffer);

/// The buffer that a tensor's data lies in, be it a view or not.
ggml_backend_buffer_t buffer_of(const ggml_tensor* tensor);

/// Fills in functions and pointers; the device keeps it.
void init_buffer_type(RemoteDevice& device);
bool is_buffer_type_of(const RemoteDevice& device, ggml_backend_buffer_type_t type);

/// Queues data for a tensor; it is copied before the call returns, or sent (large weights), or read
/// later from the file that it is mapped from. Throws if the worker was lost. `data` is `size`
/// bytes, for the tensor's bytes from `offset`.
void set_tensor(const RemoteBuffer& buffer, const ggml_tensor* tensor, const void* data,
                std::size_t offset, std::size_t size);

/// The request for a tensor's bytes; where they go is left to be said.
Message get_request(const ggml_tensor* tensor, std::uint64_t offset, std::uint64_t size);

/// The request that sets a tensor's data, with room for it at its end: `room` points there.
Message set_request(const SetTensorHead& head, std::uint64_t size, std::byte*& room);
/// Of all of a tensor's data.
Message set_request(const ggml_tensor* tensor, std::uint64_t size, std::byte*& room);

/// Queues a copy between tensors of our buffers, on the same worker or from one to another.
void copy_tensor(const RemoteBuffer& from, const ggml_tensor* source, const RemoteBuffer& to,
                 ggml_tensor* destination);

}  // namespace rpc_pipeline
