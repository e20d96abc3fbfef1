// Metadata: the named values at the front of a GGUF file. A value; any thread may read it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace yoke::gguf {

// As the file numbers them.
enum class ValueType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// In bytes; 0 for strings and arrays, whose size differs, and for what is no type.
std::size_t size_of(ValueType type);

// Unsigned and signed integers of any width, floats of either.
using Scalar = std::variant<std::uint64_t, std::int64_t, double, bool, std::string>;

// A vocabulary has 160,000 strings that nobody asks for: of a long array only the front is kept.
struct Array {
  ValueType type = ValueType::kUint8;
  std::uint64_t count = 0;
  std::vector<Scalar> front;
  bool complete() const { return front.size() == count; }
};

struct Value {
  ValueType type = ValueType::kUint8;
  std::variant<Scalar, Array> data;
};

class Metadata {
 public:
  using Values = std::map<std::string, Value, std::less<>>;

  // False if there is a value of that name already.
  bool add(std::string key, Value value);

  const Values& values() const { return values_; }
  const Value* find(std::string_view key) const;

  // The value, if it is there and of that kind; integers of any width that are not negative.
  std::optional<std::uint64_t> integer(std::string_view key) const;
  // Integers too.
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  const std::string* string(std::string_view key) const;
  const Array* array(std::string_view key) const;

  // One integer per layer: a single value stands for all `layers` of them. None if it isn't there,
  // has negative or too few of them, or was too long to be kept. Booleans count as 0 and 1.
  std::optional<std::vector<std::uint64_t>> per_layer(std::string_view key,
                                                      std::uint64_t layers) const;

  // general.architecture; empty if it isn't there.
  std::string_view architecture() const;
  // "llama.block_count" for "block_count".
  std::string of_architecture(std::string_view key) const;

 private:
  const Scalar* scalar(std::string_view key) const;

  Values values_;
};

}  // namespace yoke::gguf
