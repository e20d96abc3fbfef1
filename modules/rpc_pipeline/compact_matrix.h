// A matrix whose rows are mostly alike, in fewer bytes: some rows, and the columns in which those
// after them differ. Attention masks of long prompts are like that: each token sees what the one
// before it sees, and one more. Plain functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "rpc_pipeline/bytes.h"

namespace rpc_pipeline {

struct MatrixShape {
  std::uint64_t element_size = 0;  ///< Bytes: 2 (half precision) or 4 (single).
  std::uint64_t columns = 0;
  std::uint64_t rows = 0;

  std::uint64_t row_size() const { return columns * element_size; }
  std::uint64_t size() const { return rows * row_size(); }
};

/// Elements from the packed bytes to a part of the matrix. Offsets and strides are in bytes.
struct StridedCopy {
  std::uint64_t from = 0;         ///< In the packed bytes; a multiple of 64.
  std::uint64_t from_stride = 0;  ///< From row to row; 0: every row gets the same.
  std::uint64_t to = 0;           ///< In the matrix, whose rows are row_size() apart.
  std::uint64_t columns = 0;
  std::uint64_t rows = 0;
};

struct CompactMatrix {
  Bytes packed;
  std::vector<StridedCopy> copies;  ///< Write each element once.
};

/// Nothing if it would take more than `max_packed` bytes, or if it has values that a device might
/// not copy bit for bit (subnormal numbers, NaN). `data` is shape.size() bytes.
std::optional<CompactMatrix> compact(std::span<const std::byte> data, const MatrixShape& shape,
                                     std::uint64_t max_packed);

}  // namespace rpc_pipeline
