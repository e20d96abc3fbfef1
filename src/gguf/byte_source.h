// ByteSource: where the bytes of a model file come from: a file, HTTP ranges, a test's string.
// Owned by whoever reads from it; one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"

namespace yoke::gguf {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Fills `into` with what lies at `offset` and says how much that was: less only where the bytes
  // end, 0 behind them. kIo, or what the source adds to it.
  virtual Result<std::size_t> read(std::uint64_t offset, std::span<char> into) = 0;

  // In bytes; none if the source can't tell.
  virtual std::optional<std::uint64_t> size() const = 0;

  // What messages call it: a path or an address, without secrets.
  virtual const std::string& name() const = 0;
};

}  // namespace yoke::gguf
