#include "gguf/header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/units.h"
#include "gguf/foreign_format.h"
#include "gguf/tensor_type.h"
#include "gguf/window.h"

namespace yoke::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in memory");

// No tensor and no file is as large; sums over all tensors stay within 64 bits.
constexpr std::uint64_t kMostElements = std::uint64_t{1} << 44;
constexpr std::uint64_t kLargestOffset = std::uint64_t{1} << 50;
constexpr std::uint64_t kLargestAlignment = std::uint64_t{1} << 31;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::string_view kDownload = "Download it again, from a direct link to the file.";

// The element type that is kept for a number of type T.
template <class T>
using Widened =
    std::conditional_t<std::is_floating_point_v<T>, double,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;

std::uint64_t round_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// Foreign text for a message: short, and fit for a terminal.
std::string quoted(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  std::string out;
  for (const char c : text.substr(0, kLongest)) out += c >= 0x20 && c < 0x7f ? c : '?';
  return fmt::format("'{}{}'", out, text.size() > kLongest ? "..." : "");
}

class HeaderReader {
 public:
  HeaderReader(ByteSource& source, const Limits& limits)
      : source_(source), limits_(limits), window_(source, limits.header_bytes) {}

  Result<Header> read();

 private:
  template <class T>
  Result<T> number();
  template <class T>
  Result<Scalar> widened();
  Result<std::string> text(std::uint64_t longest, std::string_view what);

  Result<void> check_format();
  Result<void> read_counts();
  Result<void> read_values();
  Result<Value> value(ValueType type);
  Result<Scalar> scalar(ValueType type);
  Result<Array> array();
  Result<void> strings(Array& array);
  Result<void> numbers(Array& array);
  Result<void> read_alignment();
  Result<void> read_split();
  Result<void> read_tensors();
  Result<Tensor> tensor();
  Result<void> set_bytes(Tensor& tensor) const;
  Result<void> place_tensors();
  Result<void> check_size(std::uint64_t end);

  tl::unexpected<Error> damaged(std::string_view what) const;
  tl::unexpected<Error> too_much(std::string_view what) const;

  ByteSource& source_;
  const Limits& limits_;
  Window window_;
  Header header_;
  std::uint64_t value_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t kept_numbers_ = 0;
  std::uint64_t kept_string_bytes_ = 0;
};

tl::unexpected<Error> HeaderReader::damaged(std::string_view what) const {
  return fail(kGgufInvalid, fmt::format("{} is a damaged GGUF file: {}.", source_.name(), what),
              std::string(kDownload));
}

tl::unexpected<Error> HeaderReader::too_much(std::string_view what) const {
  return fail(kGgufUnsupported,
              fmt::format("{} is a GGUF file that Yoke doesn't read: {}.", source_.name(), what),
              "If it is no damaged file, tell Yoke's maintainers about it.");
}

template <class T>
Result<T> HeaderReader::number() {
  YOKE_TRY(const std::string_view bytes, window_.take(sizeof(T)));
  T value{};
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

template <class T>
Result<Scalar> HeaderReader::widened() {
  YOKE_TRY(const T value, number<T>());
  return Scalar(static_cast<Widened<T>>(value));
}

Result<std::string> HeaderReader::text(std::uint64_t longest, std::string_view what) {
  YOKE_TRY(const std::uint64_t length, number<std::uint64_t>());
  if (length > longest) {
    return damaged(
        fmt::format("{} of {} bytes where {} at most were expected", what, length, longest));
  }
  YOKE_TRY(const std::string_view bytes, window_.take(length));
  return std::string(bytes);
}

Result<void> HeaderReader::check_format() {
  std::string head(kHeadBytes, '\0');
  YOKE_TRY(const std::size_t count, source_.read(0, head));
  head.resize(std::min(count, head.size()));
  const ForeignFormat format = foreign_format(head);
  if (format.what.empty()) return {};
  return fail(format.cut ? kGgufTruncated : kGgufInvalid,
              fmt::format("{} {}; a little-endian GGUF file of version 2 or 3 was expected.",
                          source_.name(), format.what),
              format.hint);
}

Result<void> HeaderReader::read_counts() {
  YOKE_CHECK(window_.skip(sizeof(std::uint32_t)));  // The magic.
  YOKE_TRY(header_.version, number<std::uint32_t>());
  YOKE_TRY(tensor_count_, number<std::uint64_t>());
  YOKE_TRY(value_count_, number<std::uint64_t>());
  if (tensor_count_ > limits_.tensors) {
    return too_much(fmt::format("it has {} tensors, more than {}", tensor_count_, limits_.tensors));
  }
  if (value_count_ > limits_.keys) {
    return too_much(
        fmt::format("it has {} metadata values, more than {}", value_count_, limits_.keys));
  }
  return {};
}

Result<Scalar> HeaderReader::scalar(ValueType type) {
  switch (type) {
    case ValueType::kUint8:
      return widened<std::uint8_t>();
    case ValueType::kInt8:
      return widened<std::int8_t>();
    case ValueType::kUint16:
      return widened<std::uint16_t>();
    case ValueType::kInt16:
      return widened<std::int16_t>();
    case ValueType::kUint32:
      return widened<std::uint32_t>();
    case ValueType::kInt32:
      return widened<std::int32_t>();
    case ValueType::kFloat32:
      return widened<float>();
    case ValueType::kUint64:
      return widened<std::uint64_t>();
    case ValueType::kInt64:
      return widened<std::int64_t>();
    case ValueType::kFloat64:
      return widened<double>();
    case ValueType::kBool: {
      YOKE_TRY(const std::uint8_t flag, number<std::uint8_t>());
      return Scalar(flag != 0);
    }
    case ValueType::kString: {
      YOKE_TRY(std::string value, text(limits_.string_bytes, "a text"));
      kept_string_bytes_ += value.size();
      if (kept_string_bytes_ > limits_.all_string_bytes) {
        return too_much(fmt::format("its texts are longer than {} together",
                                    format_memory(limits_.all_string_bytes)));
      }
      return Scalar(std::move(value));
    }
    case ValueType::kArray:
      break;
  }
  return damaged(
      fmt::format("a value of type {}, which there is not", static_cast<std::uint32_t>(type)));
}

Result<void> HeaderReader::strings(Array& array) {
  for (std::uint64_t i = 0; i < array.count; ++i) {
    YOKE_TRY(const std::uint64_t length, number<std::uint64_t>());
    if (i >= limits_.shown) {
      YOKE_CHECK(window_.skip(length));
      continue;
    }
    const std::uint64_t kept = std::min(length, limits_.shown_bytes);
    YOKE_TRY(const std::string_view bytes, window_.take(kept));
    array.front.emplace_back(std::string(bytes));
    YOKE_CHECK(window_.skip(length - kept));
  }
  return {};
}

Result<void> HeaderReader::numbers(Array& array) {
  const std::uint64_t size = size_of(array.type);
  if (array.count > std::numeric_limits<std::uint64_t>::max() / size) {
    return damaged(fmt::format("an array of {} elements", array.count));
  }
  const bool keep_all = array.count <= limits_.kept_numbers &&
                        array.count <= limits_.all_kept_numbers - kept_numbers_;
  const std::uint64_t kept = keep_all ? array.count : std::min(array.count, limits_.shown);
  if (keep_all) kept_numbers_ += kept;
  for (std::uint64_t i = 0; i < kept; ++i) {
    YOKE_TRY(Scalar element, scalar(array.type));
    array.front.push_back(std::move(element));
  }
  return window_.skip((array.count - kept) * size);
}

Result<Array> HeaderReader::array() {
  Array array;
  YOKE_TRY(const std::uint32_t type, number<std::uint32_t>());
  YOKE_TRY(array.count, number<std::uint64_t>());
  array.type = static_cast<ValueType>(type);
  if (array.type == ValueType::kArray) return too_much("an array of arrays in its metadata");
  if (array.type == ValueType::kString) {
    YOKE_CHECK(strings(array));
    return array;
  }
  if (size_of(array.type) == 0) {
    return damaged(fmt::format("an array of type {}, which there is not", type));
  }
  YOKE_CHECK(numbers(array));
  return array;
}

Result<Value> HeaderReader::value(ValueType type) {
  if (type == ValueType::kArray) {
    YOKE_TRY(Array values, array());
    return Value{type, std::move(values)};
  }
  YOKE_TRY(Scalar single, scalar(type));
  return Value{type, std::move(single)};
}

Result<void> HeaderReader::read_values() {
  for (std::uint64_t i = 0; i < value_count_; ++i) {
    YOKE_TRY(std::string key, text(limits_.key_bytes, "a metadata key"));
    if (key.empty()) return damaged("a metadata value without a name");
    YOKE_TRY(const std::uint32_t type, number<std::uint32_t>());
    YOKE_TRY(Value read, value(static_cast<ValueType>(type)));
    if (header_.metadata.find(key) != nullptr) {
      return damaged(fmt::format("two metadata values are named {}", quoted(key)));
    }
    header_.metadata.add(std::move(key), std::move(read));
  }
  return {};
}

Result<void> HeaderReader::read_alignment() {
  header_.alignment = kDefaultAlignment;
  if (header_.metadata.find("general.alignment") == nullptr) return {};
  header_.alignment = header_.metadata.integer("general.alignment").value_or(0);
  if (std::has_single_bit(header_.alignment) && header_.alignment <= kLargestAlignment) return {};
  return damaged("general.alignment is no power of two");
}

Result<void> HeaderReader::read_split() {
  const Metadata& metadata = header_.metadata;
  if (metadata.find("split.count") == nullptr) return {};
  const auto number = metadata.integer("split.no");
  const auto count = metadata.integer("split.count");
  if (count && *count <= 1) return {};
  if (!number || !count || *count > std::numeric_limits<std::uint16_t>::max() ||
      *number >= *count) {
    return damaged("split.no and split.count don't say which part of how many it is");
  }
  header_.split = Split{static_cast<std::uint32_t>(*number), static_cast<std::uint32_t>(*count),
                        metadata.integer("split.tensors.count")};
  return {};
}

Result<void> HeaderReader::set_bytes(Tensor& tensor) const {
  const TensorType* const type = find_tensor_type(tensor.type);
  if (type == nullptr) return {};
  if (tensor.dims[0] % type->block_elements != 0) {
    return damaged(fmt::format("tensor {} has rows of {} elements, which {} can't hold",
                               quoted(tensor.name), tensor.dims[0], type->name));
  }
  tensor.bytes = tensor.elements() / type->block_elements * type->block_bytes;
  return {};
}

Result<Tensor> HeaderReader::tensor() {
  Tensor tensor;
  YOKE_TRY(tensor.name, text(limits_.tensor_name_bytes, "a tensor's name"));
  YOKE_TRY(tensor.dim_count, number<std::uint32_t>());
  if (tensor.dim_count > tensor.dims.size()) {
    return damaged(fmt::format("tensor {} has {} dimensions, more than {}", quoted(tensor.name),
                               tensor.dim_count, tensor.dims.size()));
  }
  std::uint64_t room = kMostElements - 1;
  for (std::uint32_t i = 0; i < tensor.dim_count; ++i) {
    YOKE_TRY(tensor.dims[i], number<std::uint64_t>());
    if (tensor.dims[i] == 0 || tensor.dims[i] > room) {
      return damaged(fmt::format("tensor {} has a dimension of {} elements", quoted(tensor.name),
                                 tensor.dims[i]));
    }
    room /= tensor.dims[i];
  }
  YOKE_TRY(tensor.type, number<std::uint32_t>());
  YOKE_TRY(tensor.offset, number<std::uint64_t>());
  if (tensor.offset % header_.alignment != 0 || tensor.offset > kLargestOffset) {
    return damaged(
        fmt::format("tensor {} lies at {}, where none can be", quoted(tensor.name), tensor.offset));
  }
  YOKE_CHECK(set_bytes(tensor));
  return tensor;
}

Result<void> HeaderReader::read_tensors() {
  for (std::uint64_t i = 0; i < tensor_count_; ++i) {
    YOKE_TRY(Tensor read, tensor());
    header_.tensors.push_back(std::move(read));
  }
  std::unordered_set<std::string_view> names;
  for (const Tensor& tensor : header_.tensors) {
    if (!names.insert(tensor.name).second) {
      return damaged(fmt::format("two tensors are named {}", quoted(tensor.name)));
    }
  }
  return {};
}

// They have to follow one another, and the file has to hold them all.
Result<void> HeaderReader::place_tensors() {
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) {
    Tensor& tensor = header_.tensors[i];
    if (tensor.offset < end) {
      return damaged(fmt::format("tensor {} lies over the one before it", quoted(tensor.name)));
    }
    if (find_tensor_type(tensor.type) == nullptr) {
      const bool last = i + 1 == header_.tensors.size();
      const std::uint64_t data =
          source_.size().value_or(0) - std::min(source_.size().value_or(0), header_.data_offset);
      const std::uint64_t next = last ? data : header_.tensors[i + 1].offset;
      tensor.bytes = next - std::min(next, tensor.offset);
    }
    end = tensor.offset + tensor.bytes;
  }
  return check_size(header_.tensors.empty() ? header_.header_bytes : header_.data_offset + end);
}

Result<void> HeaderReader::check_size(std::uint64_t end) {
  const auto size = source_.size();
  header_.file_bytes = size.value_or(end);
  if (!size || *size >= end) return {};
  return fail(kGgufTruncated,
              fmt::format("{} is incomplete: it has {} of the {} that its header names.",
                          source_.name(), format_bytes(*size), format_bytes(end)),
              std::string(kDownload));
}

Result<Header> HeaderReader::read() {
  YOKE_CHECK(check_format());
  header_.name = source_.name();
  YOKE_CHECK(read_counts());
  YOKE_CHECK(read_values());
  YOKE_CHECK(read_alignment());
  YOKE_CHECK(read_split());
  YOKE_CHECK(read_tensors());
  header_.header_bytes = window_.position();
  header_.data_offset = round_up(header_.header_bytes, header_.alignment);
  YOKE_CHECK(place_tensors());
  return std::move(header_);
}

}  // namespace

Result<Header> read_header(ByteSource& source, const Limits& limits) {
  return HeaderReader(source, limits).read();
}

}  // namespace yoke::gguf
