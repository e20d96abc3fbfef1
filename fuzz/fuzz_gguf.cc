// The reader of GGUF headers. The first byte of an input says how it is read (bit 0: the source
// knows its size; bit 1: it has a large hole behind its end, as a file that claims to be long), the
// rest is the file. Beyond not crashing, what it hands on must be bounded and agree with itself.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "gguf/header.h"
#include "gguf/model.h"
#include "gguf/summary.h"

namespace {

using namespace yoke::gguf;

constexpr std::uint64_t kHole = std::uint64_t{1} << 40;
constexpr std::uint64_t kMost = std::uint64_t{1} << 50;

void require(bool holds) {
  if (!holds) std::abort();
}

class Input final : public ByteSource {
 public:
  Input(std::string_view bytes, unsigned how) : bytes_(bytes), how_(how) {}

  yoke::Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override {
    require(into.size() <= (std::size_t{16} << 20));
    const std::uint64_t start = std::min<std::uint64_t>(offset, bytes_.size());
    const std::size_t count = std::min<std::size_t>(into.size(), bytes_.size() - start);
    std::copy_n(bytes_.data() + start, count, into.data());
    if ((how_ & 2) == 0) return count;
    std::fill(into.begin() + static_cast<std::ptrdiff_t>(count), into.end(), '\0');
    return into.size();
  }
  std::optional<std::uint64_t> size() const override {
    if ((how_ & 1) == 0) return std::nullopt;
    return bytes_.size() + ((how_ & 2) == 0 ? 0 : kHole);
  }
  const std::string& name() const override { return name_; }

 private:
  std::string_view bytes_;
  unsigned how_;
  std::string name_ = "input";
};

void check(const Metadata& metadata, const Limits& limits) {
  require(metadata.values().size() <= limits.keys);
  for (const auto& [key, value] : metadata.values()) {
    require(!key.empty() && key.size() <= limits.key_bytes);
    if (const Array* array = metadata.array(key)) {
      require(array->front.size() <= std::max(limits.kept_numbers, limits.shown));
      require(array->front.size() <= array->count);
    }
    (void)metadata.integer(key);
    (void)metadata.number(key);
    if (const auto numbers = metadata.per_layer(key, 3)) require(numbers->size() == 3);
  }
}

void check(const Header& header, const Limits& limits) {
  require(header.version == 2 || header.version == 3);
  require(header.header_bytes <= limits.header_bytes);
  require(header.data_offset >= header.header_bytes);
  require(header.data_offset % header.alignment == 0);
  require(!header.split || header.split->number < header.split->count);
  std::uint64_t end = 0;
  for (const Tensor& tensor : header.tensors) {
    require(tensor.name.size() <= limits.tensor_name_bytes);
    require(tensor.elements() > 0 && tensor.elements() < kMost);
    require(tensor.offset >= end && tensor.offset % header.alignment == 0);
    end = tensor.offset + tensor.bytes;
    require(end < 2 * kMost && header.data_offset + end >= end);
  }
  if (!header.tensors.empty()) require(header.file_bytes >= header.data_offset + end);
  check(header.metadata, limits);
}

// As a model of one file, or as far as its split goes.
void check_model(Header header) {
  const std::size_t tensors = header.tensors.size();
  const std::uint64_t bytes = header.file_bytes;
  ModelAssembly assembly;
  if (!assembly.add(std::move(header)) || assembly.expected_parts() > 1) {
    require(!assembly.finish());
    return;
  }
  const auto model = assembly.finish();
  if (!model) return;
  require(model->tensors.size() == tensors && model->file_bytes() == bytes);
  const Summary summary = summarize(*model);
  std::uint64_t sum = 0;
  for (const TypeShare& share : summary.types) sum += share.bytes;
  require(sum == summary.tensor_bytes && sum <= summary.file_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Input input({reinterpret_cast<const char*>(data) + 1, size - 1}, data[0]);
  Limits limits;
  limits.header_bytes = 256 << 10;  // So that holes are soon at their end.
  limits.keys = 256;
  limits.tensors = 256;
  auto header = read_header(input, limits);
  if (!header) {
    require(!header.error().message.empty() && header.error().message.size() < 1024);
    return 0;
  }
  check(*header, limits);
  check_model(std::move(*header));
  return 0;
}
