// ForeignStruct: a struct of somebody else's ABI, known by the offsets of a few fields only. Large
// and zeroed, so that a library that writes more than was known overwrites nothing else.
// A value; one thread at a time.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace yoke::hardware {

class ForeignStruct {
 public:
  // For the library to write to.
  void* data() { return bytes_.data(); }

  template <class T>
  T at(std::size_t offset) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  // The text in a field of `size` bytes, which may fill it without a zero at its end.
  std::string text(std::size_t offset, std::size_t size) const {
    const std::string_view field(bytes_.data() + offset, size);
    return std::string(field.substr(0, field.find('\0')));
  }

 private:
  std::vector<char> bytes_ = std::vector<char>(std::size_t{64} << 10);
};

}  // namespace yoke::hardware
