#include "rpc_pipeline/backend.h"

#include <memory>
#include <mutex>
#include <utility>

#include "ggml-impl.h"
#include "rpc_pipeline/buffer.h"
#include "rpc_pipeline/device.h"
#include "rpc_pipeline/graph.h"

namespace rpc_pipeline {
namespace {

// A number of our own: the stock client's backends have another.
ggml_guid kGuid = {0x79, 0x6f, 0x6b, 0x65, 0x2d, 0x72, 0x70, 0x63,
                   0x2d, 0x70, 0x69, 0x70, 0x65, 0x00, 0x07, 0x00};

RemoteDevice& device_of(ggml_backend_t backend) {
  return *static_cast<RemoteDevice*>(backend->context);
}

// An event is a place in the worker's queue. All that a caller can wait for are answers that were
// queued before it; what is queued at the worker stays in order without any waiting.
struct Event {
  std::uint64_t reads = 0;
};

const char* get_name(ggml_backend_t backend) { return device_of(backend).type_name.c_str(); }

void free_backend(ggml_backend_t backend) { const std::unique_ptr<ggml_backend> owner(backend); }

void set_tensor_async(ggml_backend_t backend, ggml_tensor* tensor, const void* data,
                      std::size_t offset, std::size_t size) {
  const RemoteBuffer* const buffer = remote_buffer(buffer_of(tensor));
  GGML_ASSERT(buffer != nullptr && &buffer->endpoint == &device_of(backend).endpoint);
  set_tensor(*buffer, tensor, data, offset, size);
}

void get_tensor_async(ggml_backend_t backend, const ggml_tensor* tensor, void* data,
                      std::size_t offset, std::size_t size) {
  Message message = get_request(tensor, offset, size);
  message.into = static_cast<std::byte*>(data);
  message.is_read = true;
  device_of(backend).endpoint.post(std::move(message));
}

// From a device of this machine: its data is taken as soon as it is computed.
void copy_from_here(ggml_backend_t source_backend, const ggml_tensor* source,
                    const RemoteBuffer& to, ggml_tensor* destination) {
  ggml_backend_synchronize(source_backend);
  const std::size_t size = ggml_nbytes(source);
  std::byte* room = nullptr;
  Message message = set_request(destination, size, room);
  ggml_backend_tensor_get(source, room, 0, size);
  to.endpoint.post(std::move(message));
}

bool copy_tensor_async(ggml_backend_t source_backend, ggml_backend_t backend,
                       const ggml_tensor* source, ggml_tensor* destination) {
  const RemoteBuffer* const to = remote_buffer(buffer_of(destination));
  if (to == nullptr || &to->endpoint != &device_of(backend).endpoint) return false;
  if (const RemoteBuffer* const from = remote_buffer(buffer_of(source))) {
    copy_tensor(*from, source, *to, destination);
  } else {
    copy_from_here(source_backend, source, *to, destination);
  }
  return true;
}

void synchronize(ggml_backend_t backend) {
  RemoteDevice& device = device_of(backend);
  if (!device.endpoint.wait_for_reads()) throw_lost();
}

ggml_status graph_compute(ggml_backend_t backend, ggml_cgraph* graph) {
  RemoteDevice& device = device_of(backend);
  Endpoint& endpoint = device.endpoint;
  if (endpoint.lost()) return GGML_STATUS_FAILED;
  const std::lock_guard lock(device.graphs_mutex);
  const std::uint64_t frees = endpoint.buffers_freed;
  const bool stored =
      graph->uid != 0 && device.stored_graph == graph->uid && device.stored_after_frees == frees;
  if (stored) {
    endpoint.post(request(Command::kGraphRecompute, DeviceRequest{device.index}));
    return GGML_STATUS_SUCCESS;
  }
  device.stored_graph = graph->uid;
  device.stored_after_frees = frees;
  Message message;
  message.command = Command::kGraphCompute;
  message.body = wire_graph(device.index, *graph, endpoint);
  endpoint.post(std::move(message));
  return GGML_STATUS_SUCCESS;
}

void event_record(ggml_backend_t backend, ggml_backend_event_t event) {
  static_cast<Event*>(event->context)->reads = device_of(backend).endpoint.reads();
}

// What one worker is sent waits for another only through a copy, which waits for its data.
void event_wait(ggml_backend_t /*backend*/, ggml_backend_event_t /*event*/) {}

constexpr ggml_backend_i kInterface = {
    .get_name = get_name,
    .free = free_backend,
    .set_tensor_async = set_tensor_async,
    .get_tensor_async = get_tensor_async,
    .set_tensor_2d_async = nullptr,
    .get_tensor_2d_async = nullptr,
    .cpy_tensor_async = copy_tensor_async,
    .synchronize = synchronize,
    .graph_plan_create = nullptr,
    .graph_plan_free = nullptr,
    .graph_plan_update = nullptr,
    .graph_plan_compute = nullptr,
    .graph_compute = graph_compute,
    .event_record = event_record,
    .event_wait = event_wait,
    .graph_optimize = nullptr,
};

}  // namespace

ggml_backend_t make_backend(RemoteDevice& device) {
  return std::make_unique<ggml_backend>(ggml_backend{&kGuid, kInterface, &device.device, &device})
      .release();
}

ggml_backend_event_t make_event(ggml_backend_dev_t device) {
  auto event = std::make_unique<Event>();
  return std::make_unique<ggml_backend_event>(ggml_backend_event{device, event.release()})
      .release();
}

void free_event(ggml_backend_dev_t /*device*/, ggml_backend_event_t event) {
  const std::unique_ptr<Event> context(static_cast<Event*>(event->context));
  const std::unique_ptr<ggml_backend_event> owner(event);
}

void synchronize_event(ggml_backend_dev_t device, ggml_backend_event_t event) {
  RemoteDevice& remote = remote_device(device);
  if (!remote.endpoint.wait_for_reads(static_cast<Event*>(event->context)->reads)) throw_lost();
}

}  // namespace rpc_pipeline
