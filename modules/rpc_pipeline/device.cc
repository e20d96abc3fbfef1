#include "rpc_pipeline/device.h"

#include <stdexcept>
#include <utility>

#include "rpc_pipeline/backend.h"
#include "rpc_pipeline/buffer.h"
#include "rpc_pipeline/fill.h"
#include "rpc_pipeline/reply_reader.h"

namespace rpc_pipeline {
namespace {

const char* get_name(ggml_backend_dev_t device) { return remote_device(device).name.c_str(); }

const char* get_description(ggml_backend_dev_t device) {
  return remote_device(device).description.c_str();
}

// Zeros if the worker was lost.
void get_memory(ggml_backend_dev_t device, std::size_t* free, std::size_t* total) {
  RemoteDevice& remote = remote_device(device);
  MemoryReply reply{};
  if (remote.endpoint.call(request(Command::kGetDeviceMemory, DeviceRequest{remote.index}),
                           reply)) {
    if (const auto error = check(reply)) {
      remote.loop.give_up(remote.endpoint, *error);
      reply = {};
    }
  }
  *free = reply.free;
  *total = reply.total;
}

// As the stock client has it: the protocol doesn't tell.
enum ggml_backend_dev_type get_type(ggml_backend_dev_t /*device*/) {
  return GGML_BACKEND_DEVICE_TYPE_GPU;
}

void get_props(ggml_backend_dev_t device, ggml_backend_dev_props* props) {
  *props = {};
  props->name = get_name(device);
  props->description = get_description(device);
  props->type = get_type(device);
  get_memory(device, &props->memory_free, &props->memory_total);
  props->caps.async = true;
  props->caps.events = true;
  props->caps.mmap_support = true;
}

ggml_backend_t init_backend(ggml_backend_dev_t device, const char* /*parameters*/) {
  prepare_fills(remote_device(device));
  return make_backend(remote_device(device));
}

ggml_backend_buffer_type_t get_buffer_type(ggml_backend_dev_t device) {
  return &remote_device(device).buffer_type;
}

// The protocol has no question for it, so the worker is taken to compute everything.
bool supports_op(ggml_backend_dev_t /*device*/, const ggml_tensor* /*operation*/) { return true; }

bool supports_buffer_type(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
  return is_buffer_type_of(remote_device(device), type);
}

constexpr ggml_backend_device_i kInterface = {
    .get_name = get_name,
    .get_description = get_description,
    .get_memory = get_memory,
    .get_type = get_type,
    .get_props = get_props,
    .init_backend = init_backend,
    .get_buffer_type = get_buffer_type,
    .get_host_buffer_type = nullptr,
    .buffer_from_host_ptr = nullptr,
    .supports_op = supports_op,
    .supports_buft = supports_buffer_type,
    .offload_op = nullptr,
    .event_new = make_event,
    .event_free = free_event,
    .event_synchronize = synchronize_event,
};

}  // namespace

bool AllocSizes::find(const Key& key, std::uint64_t& size) const {
  const std::lock_guard lock(mutex_);
  const auto found = sizes_.find(key);
  if (found == sizes_.end()) return false;
  size = found->second;
  return true;
}

void AllocSizes::add(const Key& key, std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  sizes_[key] = size;
}

RemoteDevice::RemoteDevice(ClientLoop& client, Endpoint& worker, std::uint32_t number,
                           std::string device_name, ggml_backend_reg_t registry)
    : loop(client),
      endpoint(worker),
      index(number),
      name(std::move(device_name)),
      description(client.settings().name_of(worker.address())),
      type_name("RPC" + std::to_string(number) + "[" + worker.address() + "]"),
      device{kInterface, registry, this} {
  init_buffer_type(*this);
}

RemoteDevice& remote_device(ggml_backend_dev_t device) {
  return *static_cast<RemoteDevice*>(device->context);
}

bool learn_limits(RemoteDevice& device) {
  NumberReply alignment{};
  NumberReply max_size{};
  const DeviceRequest body{device.index};
  if (!device.endpoint.call(request(Command::kGetAlignment, body), alignment)) return false;
  if (!device.endpoint.call(request(Command::kGetMaxSize, body), max_size)) return false;
  if (const auto error = check_alignment(alignment)) {
    device.loop.give_up(device.endpoint, *error);
    return false;
  }
  device.alignment = alignment.value;
  device.max_size = max_size.value;
  return true;
}

void throw_lost() { throw std::runtime_error("yoke-rpc: a worker was lost"); }

}  // namespace rpc_pipeline
