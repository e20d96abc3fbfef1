#include "gguf/metadata.h"

#include <utility>

#include <fmt/format.h>

namespace yoke::gguf {
namespace {

// More layers than any array that is kept has.
constexpr std::uint64_t kMostLayers = 4096;

std::optional<std::uint64_t> integer_of(const Scalar& scalar) {
  if (const auto* number = std::get_if<std::uint64_t>(&scalar)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(&scalar); number != nullptr && *number >= 0) {
    return static_cast<std::uint64_t>(*number);
  }
  return std::nullopt;
}

std::optional<std::uint64_t> integer_or_flag(const Scalar& scalar) {
  if (const bool* flag = std::get_if<bool>(&scalar)) return *flag ? 1 : 0;
  return integer_of(scalar);
}

}  // namespace

std::size_t size_of(ValueType type) {
  switch (type) {
    case ValueType::kUint8:
    case ValueType::kInt8:
    case ValueType::kBool:
      return 1;
    case ValueType::kUint16:
    case ValueType::kInt16:
      return 2;
    case ValueType::kUint32:
    case ValueType::kInt32:
    case ValueType::kFloat32:
      return 4;
    case ValueType::kUint64:
    case ValueType::kInt64:
    case ValueType::kFloat64:
      return 8;
    case ValueType::kString:
    case ValueType::kArray:
      return 0;
  }
  return 0;
}

bool Metadata::add(std::string key, Value value) {
  return values_.emplace(std::move(key), std::move(value)).second;
}

const Value* Metadata::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const Scalar* Metadata::scalar(std::string_view key) const {
  const Value* const value = find(key);
  return value == nullptr ? nullptr : std::get_if<Scalar>(&value->data);
}

std::optional<std::uint64_t> Metadata::integer(std::string_view key) const {
  const Scalar* const value = scalar(key);
  return value == nullptr ? std::nullopt : integer_of(*value);
}

std::optional<double> Metadata::number(std::string_view key) const {
  const Scalar* const value = scalar(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::uint64_t>(value)) return static_cast<double>(*number);
  return std::nullopt;
}

std::optional<bool> Metadata::boolean(std::string_view key) const {
  const Scalar* const value = scalar(key);
  const bool* const flag = value == nullptr ? nullptr : std::get_if<bool>(value);
  return flag == nullptr ? std::nullopt : std::optional(*flag);
}

const std::string* Metadata::string(std::string_view key) const {
  const Scalar* const value = scalar(key);
  return value == nullptr ? nullptr : std::get_if<std::string>(value);
}

const Array* Metadata::array(std::string_view key) const {
  const Value* const value = find(key);
  return value == nullptr ? nullptr : std::get_if<Array>(&value->data);
}

std::optional<std::vector<std::uint64_t>> Metadata::per_layer(std::string_view key,
                                                              std::uint64_t layers) const {
  if (layers > kMostLayers) return std::nullopt;
  if (const Scalar* const value = scalar(key)) {
    const auto number = integer_or_flag(*value);
    if (!number) return std::nullopt;
    return std::vector<std::uint64_t>(layers, *number);
  }
  const Array* const values = array(key);
  if (values == nullptr || values->front.size() < layers) return std::nullopt;
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    const auto number = integer_or_flag(values->front[layer]);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

std::string_view Metadata::architecture() const {
  const std::string* const name = string("general.architecture");
  return name == nullptr ? std::string_view() : std::string_view(*name);
}

std::string Metadata::of_architecture(std::string_view key) const {
  return fmt::format("{}.{}", architecture(), key);
}

}  // namespace yoke::gguf
