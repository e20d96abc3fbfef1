#include "rpc_pipeline/compact_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace rpc_pipeline {
namespace {

// What devices want views of their memory to be aligned to, at most.
constexpr std::uint64_t kPieceAlignment = 256;
// Blocks begin and end at such columns, so that what devices copy is aligned too.
constexpr std::uint64_t kColumnAlignment = 32;
constexpr std::uint64_t kLeastBlockColumns = 64;

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

// `size` if there is none.
std::uint64_t first_difference(const std::byte* a, const std::byte* b, std::uint64_t size) {
  constexpr std::uint64_t kStep = 512;
  std::uint64_t at = 0;
  while (size - at >= kStep && std::memcmp(a + at, b + at, kStep) == 0) at += kStep;
  while (at < size && a[at] == b[at]) ++at;
  return at;
}

// 0 if there is none.
std::uint64_t end_of_differences(const std::byte* a, const std::byte* b, std::uint64_t size) {
  constexpr std::uint64_t kStep = 512;
  while (size >= kStep && std::memcmp(a + size - kStep, b + size - kStep, kStep) == 0) {
    size -= kStep;
  }
  while (size > 0 && a[size - 1] == b[size - 1]) --size;
  return size;
}

// Columns from begin to before end; none if begin is not less.
struct Columns {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t count() const { return end > begin ? end - begin : 0; }
};

// Rows that equal the first of them, but for some columns.
struct Run {
  std::uint64_t first = 0;
  std::uint64_t rows = 0;
  Columns block;
};

class Matrix {
 public:
  Matrix(const std::byte* data, const MatrixShape& shape) : data_(data), shape_(shape) {}

  const MatrixShape& shape() const { return shape_; }
  const std::byte* at(std::uint64_t row, std::uint64_t column = 0) const {
    return data_ + row * shape_.row_size() + column * shape_.element_size;
  }

  // `known`, and what is left and right of it up to where the two rows differ.
  Columns differing(std::uint64_t row, std::uint64_t other, const Columns& known) const {
    const std::uint64_t size = shape_.element_size;
    const std::uint64_t left_end = known.count() == 0 ? shape_.columns : known.begin;
    const std::uint64_t left = first_difference(at(row), at(other), left_end * size) / size;
    Columns result = known;
    if (left < left_end) result.begin = left / kColumnAlignment * kColumnAlignment;
    const std::uint64_t right_begin = known.count() == 0 ? left : known.end;
    const std::uint64_t end =
        right_begin + (end_of_differences(at(row, right_begin), at(other, right_begin),
                                          (shape_.columns - right_begin) * size) +
                       size - 1) /
                          size;
    if (end > right_begin) result.end = std::min(round_up(end, kColumnAlignment), shape_.columns);
    return result;
  }

 private:
  const std::byte* const data_;
  const MatrixShape shape_;
};

std::uint64_t row_bytes(const MatrixShape& shape) {
  return round_up(shape.row_size(), kPieceAlignment);
}

std::uint64_t block_bytes(const Run& run, const MatrixShape& shape) {
  return round_up(run.block.count() * run.rows * shape.element_size, kPieceAlignment);
}

std::uint64_t packed_bytes(const Run& run, const MatrixShape& shape) {
  return row_bytes(shape) + block_bytes(run, shape);
}

// Empty if they would take more than `max_packed` bytes.
std::vector<Run> runs_of(const Matrix& matrix, std::uint64_t max_packed) {
  const MatrixShape& shape = matrix.shape();
  // In a mask a run of n rows has a block of n columns, so a row of the matrix costs its share of
  // the first one, columns / n, and n: least if n is the root.
  const std::uint64_t most_columns =
      std::max(kLeastBlockColumns,
               round_up(static_cast<std::uint64_t>(std::sqrt(static_cast<double>(shape.columns))),
                        kColumnAlignment));
  std::vector<Run> runs;
  std::uint64_t packed = 0;
  Run run{0, 1, {}};
  for (std::uint64_t row = 1; row <= shape.rows; ++row) {
    if (row < shape.rows) {
      const Columns block = matrix.differing(run.first, row, run.block);
      if (block.count() <= most_columns) {
        run.block = block;
        ++run.rows;
        continue;
      }
    }
    packed += packed_bytes(run, shape);
    if (packed > max_packed) return {};
    runs.push_back(run);
    run = {row, 1, {}};
  }
  return runs;
}

template <typename Word>
bool all_plain(std::span<const std::byte> bytes, Word exponent, Word mantissa) {
  for (std::size_t at = 0; at + sizeof(Word) <= bytes.size(); at += sizeof(Word)) {
    Word word;
    std::memcpy(&word, bytes.data() + at, sizeof(word));
    const auto power = static_cast<Word>(word & exponent);
    if ((word & mantissa) != 0 && (power == 0 || power == exponent)) return false;
  }
  return true;
}

bool all_plain(std::span<const std::byte> bytes, std::uint64_t element_size) {
  if (element_size == 2) return all_plain<std::uint16_t>(bytes, 0x7c00, 0x03ff);
  return all_plain<std::uint32_t>(bytes, 0x7f80'0000, 0x007f'ffff);
}

class Packer {
 public:
  Packer(const Matrix& matrix, std::uint64_t size) : matrix_(matrix) {
    result_.packed = Bytes(static_cast<std::size_t>(size));
    std::memset(result_.packed.data(), 0, result_.packed.size());
  }

  void add(const Run& run) {
    const MatrixShape& shape = matrix_.shape();
    const std::uint64_t row = put_rows(run.first, 1, {0, shape.columns});
    const Columns block =
        run.block.count() == 0 ? Columns{shape.columns, shape.columns} : run.block;
    copy(row, 0, run, {0, block.begin});
    copy(row + block.end * shape.element_size, 0, run, {block.end, shape.columns});
    if (block.count() == 0) return;
    copy(put_rows(run.first, run.rows, block), block.count() * shape.element_size, run, block);
  }

  CompactMatrix take() { return std::move(result_); }

 private:
  std::uint64_t put_rows(std::uint64_t first, std::uint64_t rows, const Columns& columns) {
    const std::uint64_t begin = end_;
    const std::uint64_t size = columns.count() * matrix_.shape().element_size;
    for (std::uint64_t row = 0; row < rows; ++row) {
      std::memcpy(result_.packed.data() + end_, matrix_.at(first + row, columns.begin), size);
      end_ += size;
    }
    end_ = round_up(end_, kPieceAlignment);
    return begin;
  }

  void copy(std::uint64_t from, std::uint64_t stride, const Run& run, const Columns& columns) {
    if (columns.count() == 0) return;
    const MatrixShape& shape = matrix_.shape();
    const std::uint64_t to = run.first * shape.row_size() + columns.begin * shape.element_size;
    result_.copies.push_back({from, stride, to, columns.count(), run.rows});
  }

  const Matrix& matrix_;
  CompactMatrix result_;
  std::uint64_t end_ = 0;
};

}  // namespace

std::optional<CompactMatrix> compact(std::span<const std::byte> data, const MatrixShape& shape,
                                     std::uint64_t max_packed) {
  if (shape.rows == 0 || shape.columns == 0) return std::nullopt;
  const Matrix matrix(data.data(), shape);
  const std::vector<Run> runs = runs_of(matrix, max_packed);
  if (runs.empty()) return std::nullopt;
  std::uint64_t size = 0;
  for (const Run& run : runs) size += packed_bytes(run, shape);
  Packer packer(matrix, size);
  for (const Run& run : runs) packer.add(run);
  CompactMatrix result = packer.take();
  if (!all_plain({result.packed.data(), result.packed.size()}, shape.element_size)) {
    return std::nullopt;
  }
  return result;
}

}  // namespace rpc_pipeline
