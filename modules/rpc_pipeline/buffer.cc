#include "rpc_pipeline/buffer.h"

#include <cstring>
#include <memory>
#include <utility>

#include "rpc_pipeline/device.h"
#include "rpc_pipeline/fill.h"
#include "rpc_pipeline/graph.h"
#include "rpc_pipeline/mapped_files.h"
#include "rpc_pipeline/reply_reader.h"
#include "rpc_pipeline/weight_hashes.h"

namespace rpc_pipeline {
namespace {

// ggml-rpc-server's cache is for tensors larger than this (ggml-rpc.cpp, HASH_THRESHOLD).
constexpr std::size_t kCachedSize = std::size_t{10} << 20;
RemoteBuffer& context_of(ggml_backend_buffer_t buffer) {
  return *static_cast<RemoteBuffer*>(buffer->context);
}

RemoteDevice& device_of(ggml_backend_buffer_type_t type) {
  return *static_cast<RemoteDevice*>(type->context);
}

MappedFiles& mapped_files() {
  static auto& files = *std::make_unique<MappedFiles>().release();  // Outlives static destruction.
  return files;
}

// Workers pad rows of quantized tensors (CUDA to 512 elements), and only they know how far.
bool is_padded(const ggml_tensor* tensor) {
  return ggml_is_quantized(tensor->type) && tensor->ne[0] % 512 != 0 && tensor->view_src == nullptr;
}

SetTensorHead set_head(const ggml_tensor* tensor, std::uint64_t offset) {
  SetTensorHead head{};
  head.tensor = wire_tensor(tensor);
  head.offset = offset;
  return head;
}

// Weights that are not read from a mapped file: sent from the caller's memory, before it goes on.
void send_weights(Endpoint& endpoint, const ggml_tensor* tensor, std::span<const std::byte> data,
                  std::uint64_t offset) {
  SetTensorHashRequest body{};
  body.tensor = wire_tensor(tensor);
  body.offset = offset;
  body.hash = fnv1a(data);
  FlagReply reply{};
  if (!endpoint.call(request(Command::kSetTensorHash, body), reply) || reply.flag == 1) return;
  SetTensorHead head = set_head(tensor, offset);
  head.keep = 1;
  Message message = request(Command::kSetTensor, head);
  message.borrowed = data;
  endpoint.call(std::move(message));
}

void send_upload(Endpoint& endpoint, const ggml_tensor* tensor, FileRange range,
                 std::uint64_t offset) {
  auto upload = std::make_unique<Upload>();
  upload->tensor = wire_tensor(tensor);
  upload->offset = offset;
  upload->ask = range.size > kCachedSize;
  upload->data = std::move(range);
  Message message;
  message.command = Command::kSetTensor;
  message.upload = std::move(upload);
  endpoint.post(std::move(message));
}

// What ggml calls

void free_buffer(ggml_backend_buffer_t buffer) {
  const std::unique_ptr<RemoteBuffer> context(&context_of(buffer));
  ++context->endpoint.buffers_freed;
  context->endpoint.post(request(Command::kFreeBuffer, BufferRequest{context->id}));
}

void* get_base(ggml_backend_buffer_t buffer) { return context_of(buffer).base; }

ggml_status init_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor) {
  if (is_padded(tensor)) {
    context_of(buffer).endpoint.post(
        request(Command::kInitTensor, TensorRequest{wire_tensor(tensor)}));
  }
  return GGML_STATUS_SUCCESS;
}

void memset_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor, std::uint8_t value,
                   std::size_t offset, std::size_t size) {
  const MemsetRequest body{wire_tensor(tensor), offset, size, value};
  context_of(buffer).endpoint.post(request(Command::kMemsetTensor, body));
}

void set_tensor_of(ggml_backend_buffer_t buffer, ggml_tensor* tensor, const void* data,
                   std::size_t offset, std::size_t size) {
  set_tensor(context_of(buffer), tensor, data, offset, size);
}

void get_tensor(ggml_backend_buffer_t buffer, const ggml_tensor* tensor, void* data,
                std::size_t offset, std::size_t size) {
  const RemoteBuffer& context = context_of(buffer);
  Message message = get_request(tensor, offset, size);
  message.into = static_cast<std::byte*>(data);
  if (!context.endpoint.call(std::move(message))) throw_lost();
}

bool copy_tensor_of(ggml_backend_buffer_t buffer, const ggml_tensor* source,
                    ggml_tensor* destination) {
  const RemoteBuffer* const from = remote_buffer(buffer_of(source));
  if (from == nullptr) return false;
  copy_tensor(*from, source, context_of(buffer), destination);
  return true;
}

void clear(ggml_backend_buffer_t buffer, std::uint8_t value) {
  const RemoteBuffer& context = context_of(buffer);
  context.endpoint.post(request(Command::kBufferClear, ClearRequest{context.id, value}));
}

constexpr ggml_backend_buffer_i kBufferInterface = {
    .free_buffer = free_buffer,
    .get_base = get_base,
    .init_tensor = init_tensor,
    .memset_tensor = memset_tensor,
    .set_tensor = set_tensor_of,
    .get_tensor = get_tensor,
    .set_tensor_2d = nullptr,
    .get_tensor_2d = nullptr,
    .cpy_tensor = copy_tensor_of,
    .clear = clear,
    .reset = nullptr,
};

const char* type_name(ggml_backend_buffer_type_t type) { return device_of(type).type_name.c_str(); }

// Null: no room, or the worker was lost or answered nonsense (then the log says so).
ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, std::size_t size) {
  RemoteDevice& device = device_of(type);
  const auto memory = allocate(device, size);
  if (!memory) return nullptr;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address at the worker, as ggml wants to have it.
  auto* const address = reinterpret_cast<void*>(static_cast<std::uintptr_t>(memory->address));
  std::unique_ptr<RemoteBuffer> context(
      new RemoteBuffer{device.endpoint, device, memory->buffer, address});
  return ggml_backend_buffer_init(type, kBufferInterface, context.release(), memory->size);
}

std::size_t get_alignment(ggml_backend_buffer_type_t type) { return device_of(type).alignment; }

std::size_t get_max_size(ggml_backend_buffer_type_t type) { return device_of(type).max_size; }

AllocSizes::Key key_of(const ggml_tensor* tensor) {
  AllocSizes::Key key;
  key.type = static_cast<std::uint32_t>(tensor->type);
  key.op = static_cast<std::uint32_t>(tensor->op);
  std::memcpy(key.op_params, tensor->op_params, sizeof(key.op_params));
  for (std::size_t i = 0; i < GGML_MAX_DIMS; ++i)
    key.ne[i] = static_cast<std::uint32_t>(tensor->ne[i]);
  return key;
}

std::size_t get_alloc_size(ggml_backend_buffer_type_t type, const ggml_tensor* tensor) {
  const std::size_t own_size = ggml_nbytes(tensor);
  if (!is_padded(tensor) && !ggml_op_alloc_size_may_expand(tensor->op)) return own_size;
  RemoteDevice& device = device_of(type);
  const AllocSizes::Key key = key_of(tensor);
  std::uint64_t size = 0;
  if (device.alloc_sizes.find(key, size)) return size;
  AllocSizeRequest body{};
  body.device = device.index;
  body.tensor = wire_tensor(tensor);
  for (std::size_t i = 0; i < GGML_MAX_SRC; ++i) body.sources[i] = wire_tensor(tensor->src[i]);
  NumberReply reply{};
  // No exception here: ggml's allocator is C. What is computed next finds the worker lost.
  if (!device.endpoint.call(request(Command::kGetAllocSize, body), reply)) return own_size;
  if (const auto error = check_alloc_size(reply, own_size)) {
    device.loop.give_up(device.endpoint, *error);
    return own_size;
  }
  device.alloc_sizes.add(key, reply.value);
  return reply.value;
}

constexpr ggml_backend_buffer_type_i kTypeInterface = {
    .get_name = type_name,
    .alloc_buffer = alloc_buffer,
    .get_alignment = get_alignment,
    .get_max_size = get_max_size,
    .get_alloc_size = get_alloc_size,
    .is_host = nullptr,
};

// Whether the worker copies between two of its devices depends on their backends alone, so it is
// asked once; later copies don't wait for the answer.
void copy_within(const RemoteBuffer& from, const ggml_tensor* source, const RemoteBuffer& to,
                 ggml_tensor* destination) {
  Endpoint& endpoint = to.endpoint;
  Message copy = request(Command::kCopyTensor,
                         CopyTensorRequest{wire_tensor(source), wire_tensor(destination)});
  const std::lock_guard lock(to.device.copies_mutex);
  const auto known = to.device.copies_from.find(from.device.index);
  if (known == to.device.copies_from.end()) {
    FlagReply reply{};
    if (!endpoint.call(std::move(copy), reply)) return;
    to.device.copies_from[from.device.index] = reply.flag == 1;
    if (reply.flag == 1) return;
  } else if (known->second) {
    copy.reply_size = sizeof(FlagReply);
    copy.must_be_one = true;
    return endpoint.post(std::move(copy));
  }
  const std::uint64_t size = ggml_nbytes(source);
  post_chained(endpoint, get_request(source, 0, size), endpoint,
               request(Command::kSetTensor, set_head(destination, 0)));
}

}  // namespace

const RemoteBuffer* remote_buffer(ggml_backend_buffer_t buffer) {
  return buffer != nullptr && buffer->iface.free_buffer == free_buffer ? &context_of(buffer)
                                                                       : nullptr;
}

ggml_backend_buffer_t buffer_of(const ggml_tensor* tensor) {
  return tensor->view_src != nullptr ? tensor->view_src->buffer : tensor->buffer;
}

std::optional<RemoteMemory> allocate(RemoteDevice& device, std::uint64_t size) {
  AllocReply reply{};
  if (!device.endpoint.call(request(Command::kAllocBuffer, AllocRequest{device.index, size}),
                            reply))
    return std::nullopt;
  if (const auto error = check(reply, size)) {
    device.loop.give_up(device.endpoint, *error);
    return std::nullopt;
  }
  if (reply.buffer == 0) return std::nullopt;
  NumberReply base{};
  if (!device.endpoint.call(request(Command::kBufferGetBase, BufferRequest{reply.buffer}), base))
    return std::nullopt;
  if (const auto error = check_base(base, reply.size)) {
    device.loop.give_up(device.endpoint, *error);
    return std::nullopt;
  }
  return RemoteMemory{reply.buffer, base.value, reply.size};
}

void init_buffer_type(RemoteDevice& device) {
  device.buffer_type = {kTypeInterface, &device.device, &device};
}

bool is_buffer_type_of(const RemoteDevice& device, ggml_backend_buffer_type_t type) {
  return type == &device.buffer_type;
}

void set_tensor(const RemoteBuffer& buffer, const ggml_tensor* tensor, const void* data,
                std::size_t offset, std::size_t size) {
  Endpoint& endpoint = buffer.endpoint;
  if (endpoint.lost()) throw_lost();
  const ggml_backend_buffer_t owner = buffer_of(tensor);
  if (ggml_backend_buffer_get_usage(owner) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS) {
    // Small ones too: touching the mapping would have the kernel read megabytes around each.
    if (auto range = mapped_files().find(data, size))
      return send_upload(endpoint, tensor, std::move(*range), offset);
    const std::span bytes(static_cast<const std::byte*>(data), size);
    if (size > kCachedSize) return send_weights(endpoint, tensor, bytes, offset);
  } else if (offset == 0 && fill_tensor(buffer, tensor, data, size)) {
    return;
  }
  std::byte* room = nullptr;
  Message message = set_request(set_head(tensor, offset), size, room);
  std::memcpy(room, data, size);
  endpoint.post(std::move(message));
}

Message get_request(const ggml_tensor* tensor, std::uint64_t offset, std::uint64_t size) {
  Message message =
      request(Command::kGetTensor, GetTensorRequest{wire_tensor(tensor), offset, size});
  message.reply_size = size;
  return message;
}

Message set_request(const SetTensorHead& head, std::uint64_t size, std::byte*& room) {
  Message message;
  message.command = Command::kSetTensor;
  message.body = Bytes(sizeof(head) + static_cast<std::size_t>(size));
  std::memcpy(message.body.data(), &head, sizeof(head));
  room = message.body.data() + sizeof(head);
  return message;
}

Message set_request(const ggml_tensor* tensor, std::uint64_t size, std::byte*& room) {
  return set_request(set_head(tensor, 0), size, room);
}

void copy_tensor(const RemoteBuffer& from, const ggml_tensor* source, const RemoteBuffer& to,
                 ggml_tensor* destination) {
  if (&from.endpoint == &to.endpoint) return copy_within(from, source, to, destination);
  const std::uint64_t size = ggml_nbytes(source);
  post_chained(from.endpoint, get_request(source, 0, size), to.endpoint,
               request(Command::kSetTensor, set_head(destination, 0)));
}

}  // namespace rpc_pipeline
