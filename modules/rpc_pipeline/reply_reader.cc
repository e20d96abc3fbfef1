#include "rpc_pipeline/reply_reader.h"

#include <algorithm>
#include <bit>

namespace rpc_pipeline {
namespace {

constexpr std::uint32_t kMaxDevices = 16;                     // llama.cpp's own limit of backends.
constexpr std::uint64_t kMaxMemory = std::uint64_t{1} << 50;  // 1 PiB: more is nonsense.
constexpr std::uint64_t kMaxAlignment = std::uint64_t{1} << 30;

}  // namespace

void ReplyReader::expect(Command command, std::uint64_t size) { due_.push_back({command, size}); }

ReplyReader::Wants ReplyReader::wants() const {
  if (due_.empty()) return Wants::kNothing;
  return head_filled_ < head_.size() ? Wants::kHead : Wants::kBody;
}

std::uint64_t ReplyReader::remaining() const {
  switch (wants()) {
    case Wants::kNothing:
      return 0;
    case Wants::kHead:
      return head_.size() - head_filled_;
    case Wants::kBody:
      return due_.front().size - body_read_;
  }
  return 0;
}

std::optional<std::string> ReplyReader::accept_head(std::span<const std::byte> bytes) {
  if (wants() != Wants::kHead || bytes.size() > remaining())
    return "an answer that nobody asked for";
  std::copy(bytes.begin(), bytes.end(), head_.begin() + static_cast<std::ptrdiff_t>(head_filled_));
  head_filled_ += bytes.size();
  if (head_filled_ < head_.size()) return std::nullopt;
  const auto size = std::bit_cast<std::uint64_t>(head_);
  if (size == due_.front().size) return std::nullopt;
  return "reply of " + std::to_string(size) + " bytes to " + std::string(name_of(command())) +
         " where " + std::to_string(due_.front().size) + " were expected";
}

bool ReplyReader::accept_body(std::uint64_t count) {
  body_read_ += count;
  if (wants() != Wants::kBody || body_read_ < due_.front().size) return false;
  due_.pop_front();
  head_filled_ = 0;
  body_read_ = 0;
  return true;
}

std::optional<std::string> check(const HelloReply& reply) {
  // As the stock client has it: the same major number, and no newer minor one.
  if (reply.major == kProtocolMajor && reply.minor <= kProtocolMinor) return std::nullopt;
  return "it speaks protocol " + std::to_string(reply.major) + "." + std::to_string(reply.minor) +
         ", this client " + std::to_string(kProtocolMajor) + "." + std::to_string(kProtocolMinor);
}

std::optional<std::string> check(const DeviceCountReply& reply) {
  if (reply.count > 0 && reply.count <= kMaxDevices) return std::nullopt;
  return "it claims " + std::to_string(reply.count) + " devices";
}

std::optional<std::string> check(const MemoryReply& reply) {
  if (reply.free <= kMaxMemory && reply.total <= kMaxMemory) return std::nullopt;
  return "it claims " + std::to_string(reply.total) + " bytes of memory, " +
         std::to_string(reply.free) + " free";
}

std::optional<std::string> check(const AllocReply& reply, std::uint64_t size) {
  if (reply.buffer == 0 || (reply.size >= size && reply.size <= kMaxMemory)) return std::nullopt;
  return "a buffer of " + std::to_string(reply.size) + " bytes where " + std::to_string(size) +
         " were asked for";
}

std::optional<std::string> check_alignment(const NumberReply& reply) {
  if (std::has_single_bit(reply.value) && reply.value <= kMaxAlignment) return std::nullopt;
  return "an alignment of " + std::to_string(reply.value);
}

std::optional<std::string> check_base(const NumberReply& reply, std::uint64_t buffer_size) {
  if (reply.value != 0 && reply.value + buffer_size >= reply.value) return std::nullopt;
  return "a buffer at address " + std::to_string(reply.value);
}

std::optional<std::string> check_alloc_size(const NumberReply& reply, std::uint64_t size) {
  if (reply.value >= size && reply.value <= kMaxMemory) return std::nullopt;
  return "room of " + std::to_string(reply.value) + " bytes for a tensor of " +
         std::to_string(size);
}

std::optional<std::string> check(const FlagReply& reply) {
  if (reply.flag <= 1) return std::nullopt;
  return "a flag of " + std::to_string(reply.flag);
}

}  // namespace rpc_pipeline
