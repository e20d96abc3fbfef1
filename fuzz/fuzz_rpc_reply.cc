// The decoder of what RPC workers answer. The first byte says how many answers are announced, two
// more bytes what each of them is, the next one how the rest, the worker's bytes, comes in pieces.
// Whatever they are: no more is taken than was announced, an answer counts only with its announced
// size, and what is believed is within its bounds.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "rpc_pipeline/reply_reader.h"

namespace {

using namespace rpc_pipeline;
using Wants = ReplyReader::Wants;

void require(bool holds) {
  if (!holds) std::abort();
}

constexpr std::uint64_t kMost = std::uint64_t{1} << 50;

/// A fixed-size answer as the client looks at it.
template <typename Reply>
Reply as(std::span<const std::byte> body) {
  Reply reply{};
  require(body.size() == sizeof(Reply));
  std::memcpy(&reply, body.data(), sizeof(Reply));
  return reply;
}

void look_at(Command command, std::span<const std::byte> body) {
  switch (command) {
    case Command::kHello:
      if (!check(as<HelloReply>(body))) require(as<HelloReply>(body).major == kProtocolMajor);
      break;
    case Command::kDeviceCount:
      if (!check(as<DeviceCountReply>(body))) require(as<DeviceCountReply>(body).count <= 16);
      break;
    case Command::kGetDeviceMemory:
      if (!check(as<MemoryReply>(body)))
        require(as<MemoryReply>(body).free <= kMost && as<MemoryReply>(body).total <= kMost);
      break;
    case Command::kAllocBuffer: {
      const auto reply = as<AllocReply>(body);
      if (!check(reply, 4096) && reply.buffer != 0)
        require(reply.size >= 4096 && reply.size <= kMost);
      break;
    }
    case Command::kGetAlignment: {
      const auto reply = as<NumberReply>(body);
      if (!check_alignment(reply))
        require(reply.value > 0 && (reply.value & (reply.value - 1)) == 0);
      break;
    }
    case Command::kBufferGetBase: {
      const auto reply = as<NumberReply>(body);
      if (!check_base(reply, 4096)) require(reply.value != 0 && reply.value <= UINT64_MAX - 4096);
      break;
    }
    case Command::kGetAllocSize: {
      const auto reply = as<NumberReply>(body);
      if (!check_alloc_size(reply, 4096)) require(reply.value >= 4096 && reply.value <= kMost);
      break;
    }
    case Command::kCopyTensor:
      if (!check(as<FlagReply>(body))) require(as<FlagReply>(body).flag <= 1);
      break;
    default:
      break;
  }
}

struct Announced {
  Command command;
  std::uint64_t size;
};

Announced announced(std::uint8_t kind, std::uint8_t size) {
  switch (kind % 10) {
    case 0:
      return {Command::kHello, sizeof(HelloReply)};
    case 1:
      return {Command::kDeviceCount, sizeof(DeviceCountReply)};
    case 2:
      return {Command::kGetDeviceMemory, sizeof(MemoryReply)};
    case 3:
      return {Command::kAllocBuffer, sizeof(AllocReply)};
    case 4:
      return {Command::kGetAlignment, sizeof(NumberReply)};
    case 5:
      return {Command::kBufferGetBase, sizeof(NumberReply)};
    case 6:
      return {Command::kGetAllocSize, sizeof(NumberReply)};
    case 7:
      return {Command::kCopyTensor, sizeof(FlagReply)};
    case 8:
      return {Command::kGetTensor,
              std::uint64_t{size} << (size % 57)};  // Also far more than comes.
    default:
      return {Command::kGetTensor, size};
  }
}

/// What is read of one answer.
class Answer {
 public:
  void add(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  std::span<const std::byte> bytes() const { return bytes_; }
  void clear() { bytes_.clear(); }

 private:
  std::vector<std::byte> bytes_;
};

class Run {
 public:
  explicit Run(std::vector<Announced> list) : list_(std::move(list)) {
    for (const auto& [command, size] : list_) reader_.expect(command, size);
  }

  /// Takes what it may of a piece. False: an error, or nothing is due.
  bool feed(std::span<const std::byte> piece) {
    while (!piece.empty()) {
      if (reader_.wants() == Wants::kNothing) {
        require(reader_.due() == 0 && reader_.remaining() == 0 &&
                reader_.accept_head(piece).has_value());
        return false;
      }
      const auto count =
          static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), reader_.remaining()));
      require(count > 0);
      require(reader_.command() == list_[at_].command && reader_.due() == list_.size() - at_);
      const auto bytes = piece.first(count);
      if (!(reader_.wants() == Wants::kHead ? head(bytes) : body(bytes))) return false;
      piece = piece.subspan(count);
    }
    return true;
  }

 private:
  bool head(std::span<const std::byte> bytes) {
    answer_.add(bytes);
    const auto error = reader_.accept_head(bytes);
    if (answer_.bytes().size() < kReplyHeadSize) {
      require(!error && reader_.remaining() == kReplyHeadSize - answer_.bytes().size());
      return true;
    }
    std::uint64_t size = 0;
    std::memcpy(&size, answer_.bytes().data(), sizeof(size));
    require(error.has_value() == (size != list_[at_].size));
    if (error) return false;
    answer_.clear();
    require(reader_.wants() == Wants::kBody && reader_.remaining() == size);
    if (size == 0) whole(reader_.accept_body(0));
    return true;
  }

  bool body(std::span<const std::byte> bytes) {
    answer_.add(bytes);
    require(answer_.bytes().size() <= list_[at_].size);
    whole(reader_.accept_body(bytes.size()));
    return true;
  }

  void whole(bool is_whole) {
    require(is_whole == (answer_.bytes().size() == list_[at_].size));
    if (!is_whole) return;
    look_at(list_[at_].command, answer_.bytes());
    answer_.clear();
    ++at_;
    require(reader_.due() == list_.size() - at_);
  }

  const std::vector<Announced> list_;
  ReplyReader reader_;
  std::size_t at_ = 0;
  Answer answer_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t count = data[0] % 16;
  if (size < 2 + 2 * count) return 0;
  std::vector<Announced> list;
  for (std::size_t i = 0; i < count; ++i)
    list.push_back(announced(data[1 + 2 * i], data[2 + 2 * i]));
  const std::size_t piece = data[1 + 2 * count];
  auto rest = std::as_bytes(std::span(data, size)).subspan(2 + 2 * count);
  Run run(std::move(list));
  // Pieces of one size, or of one that changes.
  for (std::size_t length = piece % 32; !rest.empty();
       length = piece >= 128 ? (length * 7 + 3) % 61 : length) {
    const auto next = rest.first(std::min(rest.size(), length + 1));
    if (!run.feed(next)) return 0;
    rest = rest.subspan(next.size());
  }
  return 0;
}
