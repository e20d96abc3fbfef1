// A worker's device as ggml knows it: what it is, how much memory it has, how it makes buffers and
// backends. Made by the module, one for each device of a worker; never destroyed, as ggml keeps
// pointers to it until the process ends. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "ggml-backend-impl.h"
#include "rpc_pipeline/buffer.h"
#include "rpc_pipeline/client_loop.h"

namespace rpc_pipeline {

/// What sizes tensors need at the worker, once asked for.
class AllocSizes {
 public:
  /// Which tensor: the size depends on its own shape and operation. Shapes of its sources are left
  /// out, as the stock client has it: a size that was asked for at the largest graph serves smaller
  /// ones, and asking again would wait behind whatever the worker computes.
  struct Key {
    std::uint32_t type = 0;
    std::uint32_t op = 0;
    std::int32_t op_params[16] = {};
    std::uint32_t ne[4] = {};

    auto operator<=>(const Key&) const = default;
  };

  bool find(const Key& key, std::uint64_t& size) const;
  void add(const Key& key, std::uint64_t size);

 private:
  mutable std::mutex mutex_;
  std::map<Key, std::uint64_t> sizes_;
};

struct RemoteDevice {
  RemoteDevice(ClientLoop& client, Endpoint& worker, std::uint32_t number, std::string device_name,
               ggml_backend_reg_t registry);

  ClientLoop& loop;
  Endpoint& endpoint;
  const std::uint32_t index;      ///< Among the worker's devices.
  const std::string name;         ///< "RPC0": counted over all workers.
  const std::string description;  ///< The worker's name.
  const std::string type_name;    ///< Of its buffers and backends: "RPC0[127.0.0.1:50052]".
  std::uint64_t alignment = 0;
  std::uint64_t max_size = 0;
  AllocSizes alloc_sizes;

  /// The graph that the worker has stored for this device (0: none of llama.cpp's), and how many
  /// buffers had been freed by then. The mutex is held until what stores a graph is queued.
  std::mutex graphs_mutex;
  std::uint64_t stored_graph = 0;
  std::uint64_t stored_after_frees = 0;

  std::once_flag fills_prepared;
  RemoteMemory fill_scratch;  ///< For what is to be spread out; buffer 0: the device isn't used so.

  /// Whether the worker copies from another of its devices (by index) to this one.
  std::mutex copies_mutex;
  std::map<std::uint32_t, bool> copies_from;

  ggml_backend_device device{};
  ggml_backend_buffer_type buffer_type{};
};

RemoteDevice& remote_device(ggml_backend_dev_t device);

/// Asks for alignment and largest buffer. False if the worker was lost.
bool learn_limits(RemoteDevice& device);

/// A request to a worker failed: says so to llama.cpp, which reports it as an error of what it was
/// doing (loading, decoding, saving a slot), to its clients too: so which worker is only in the
/// log, where it was written by whoever found out.
[[noreturn]] void throw_lost();

}  // namespace rpc_pipeline
