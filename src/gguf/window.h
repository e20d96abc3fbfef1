// Window: a source read from its front to the end of a header, some bytes at a time. Owned by the
// reader of the header; one thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gguf/byte_source.h"

namespace yoke::gguf {

class Window {
 public:
  // Nothing at or behind `limit` is read.
  Window(ByteSource& source, std::uint64_t limit) : source_(source), limit_(limit) {}

  std::uint64_t position() const { return position_; }

  // The next `count` bytes, valid until the next call. kGgufTruncated, kGgufUnsupported if they go
  // over the limit, what the source returned. Allocates `count` bytes and some, after it is sure
  // that they are within the limit and, where that is known, the source.
  Result<std::string_view> take(std::uint64_t count);

  // Goes on behind the next `count` bytes, which need not be read for it. As take().
  Result<void> skip(std::uint64_t count);

 private:
  Result<void> check(std::uint64_t count) const;
  Result<void> fill(std::size_t count);

  ByteSource& source_;
  std::uint64_t limit_;
  std::uint64_t position_ = 0;
  std::string bytes_;              // What was read last,
  std::uint64_t bytes_start_ = 0;  // from there on.
  std::size_t step_ = 64 * 1024;   // How much to read next; grows, as long headers go on.
};

}  // namespace yoke::gguf
