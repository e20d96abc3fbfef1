// Writes small GGUF files for tests, sound ones and damaged ones. One thread at a time.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "gguf/metadata.h"

namespace yoke::gguf {

// Little endian, as GGUF wants it.
template <class T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string raw_string(std::string_view text) {
  return raw<std::uint64_t>(text.size()).append(text);
}

// Writes what it is told, also what no reader should take.
class Writer {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  // Only how tensors are laid out; add() general.alignment.
  std::optional<std::uint64_t> claimed_values;
  std::optional<std::uint64_t> claimed_tensors;

  Writer& add_raw(std::string_view key, std::uint32_t type, std::string_view bytes) {
    values_ += raw_string(key) + raw(type);
    values_ += bytes;
    ++value_count_;
    return *this;
  }
  Writer& add(std::string_view key, std::string_view text) {
    return add_raw(key, 8, raw_string(text));
  }
  Writer& add(std::string_view key, const char* text) { return add(key, std::string_view(text)); }
  template <class T>
    requires std::is_arithmetic_v<T>
  Writer& add(std::string_view key, T value) {
    return add_raw(key, static_cast<std::uint32_t>(type_of<T>()), raw(value));
  }
  template <class T>
    requires std::is_arithmetic_v<T>
  Writer& add(std::string_view key, const std::vector<T>& values) {
    std::string bytes =
        raw(static_cast<std::uint32_t>(type_of<T>())) + raw<std::uint64_t>(values.size());
    for (const T value : values) bytes += raw(value);
    return add_raw(key, 9, bytes);
  }
  Writer& add(std::string_view key, const std::vector<std::string>& values) {
    std::string bytes = raw<std::uint32_t>(8) + raw<std::uint64_t>(values.size());
    for (const std::string& value : values) bytes += raw_string(value);
    return add_raw(key, 9, bytes);
  }

  // Behind the one before it; `bytes` is how much room it gets.
  Writer& tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::uint32_t type,
                 std::uint64_t bytes) {
    tensor_at(name, dims, type, data_bytes_);
    data_bytes_ = (data_bytes_ + bytes + alignment - 1) / alignment * alignment;
    return *this;
  }
  Writer& tensor_at(std::string_view name, const std::vector<std::uint64_t>& dims,
                    std::uint32_t type, std::uint64_t offset) {
    tensors_ += raw_string(name) + raw(static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t dim : dims) tensors_ += raw(dim);
    tensors_ += raw(type) + raw(offset);
    ++tensor_count_;
    return *this;
  }

  std::string header() const {
    return "GGUF" + raw(version) + raw(claimed_tensors.value_or(tensor_count_)) +
           raw(claimed_values.value_or(value_count_)) + values_ + tensors_;
  }
  // What the data needs behind the header, from the alignment on.
  std::uint64_t data_bytes() const { return data_bytes_; }
  std::string file() const {
    std::string bytes = header();
    if (data_bytes_ == 0) return bytes;
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment + data_bytes_);
    return bytes;
  }

 private:
  template <class T>
  static constexpr ValueType type_of() {
    if constexpr (std::is_same_v<T, bool>) return ValueType::kBool;
    if constexpr (std::is_same_v<T, float>) return ValueType::kFloat32;
    if constexpr (std::is_same_v<T, double>) return ValueType::kFloat64;
    constexpr bool kSigned = std::is_signed_v<T>;
    if constexpr (sizeof(T) == 1) return kSigned ? ValueType::kInt8 : ValueType::kUint8;
    if constexpr (sizeof(T) == 2) return kSigned ? ValueType::kInt16 : ValueType::kUint16;
    if constexpr (sizeof(T) == 4) return kSigned ? ValueType::kInt32 : ValueType::kUint32;
    return kSigned ? ValueType::kInt64 : ValueType::kUint64;
  }

  std::string values_;
  std::string tensors_;
  std::uint64_t value_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace yoke::gguf
