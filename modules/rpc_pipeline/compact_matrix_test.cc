#include "rpc_pipeline/compact_matrix.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace rpc_pipeline {
namespace {

constexpr std::uint16_t kSeen = 0;
constexpr std::uint16_t kHidden = 0xfc00;  // Minus infinity.

template <typename Element>
struct Mask {
  std::uint64_t columns;
  std::vector<Element> elements;

  MatrixShape shape() const { return {sizeof(Element), columns, elements.size() / columns}; }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(elements)); }
  std::uint64_t size() const { return bytes().size(); }
  Element& at(std::uint64_t row, std::uint64_t column) { return elements[row * columns + column]; }
};

template <typename Element = std::uint16_t>
Mask<Element> hidden(std::uint64_t columns, std::uint64_t rows,
                     Element value = static_cast<Element>(kHidden)) {
  return {columns, std::vector<Element>(columns * rows, value)};
}

// Each row sees the columns from `begin` to before `end`, and one more than the row before it.
template <typename Element>
void see(Mask<Element>& mask, std::uint64_t first_row, std::uint64_t rows, std::uint64_t begin,
         std::uint64_t end) {
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (std::uint64_t column = begin; column < end + row; ++column) {
      mask.at(first_row + row, column) = kSeen;
    }
  }
}

Mask<std::uint16_t> causal(std::uint64_t columns, std::uint64_t rows, std::uint64_t known) {
  auto mask = hidden(columns, rows);
  see(mask, 0, rows, 0, known + 1);
  return mask;
}

// What the worker does, and that it writes each byte once and reads only what is there.
std::vector<std::byte> spread(const CompactMatrix& matrix, const MatrixShape& shape) {
  std::vector<std::byte> result(shape.size());
  std::vector<std::uint8_t> writes(shape.size());
  for (const StridedCopy& copy : matrix.copies) {
    EXPECT_EQ(copy.from % 64, 0U);
    const std::uint64_t width = copy.columns * shape.element_size;
    for (std::uint64_t row = 0; row < copy.rows; ++row) {
      const std::uint64_t from = copy.from + row * copy.from_stride;
      const std::uint64_t to = copy.to + row * shape.row_size();
      if (from + width > matrix.packed.size() || to + width > result.size()) {
        ADD_FAILURE() << "a copy from or to what isn't there";
        return result;
      }
      std::memcpy(result.data() + to, matrix.packed.data() + from, width);
      for (std::uint64_t i = 0; i < width; ++i) ++writes[to + i];
    }
  }
  EXPECT_TRUE(std::ranges::all_of(writes, [](int count) { return count == 1; }));
  return result;
}

// The packed size; 0 if it can't be packed.
template <typename Element>
std::uint64_t packed_size(const Mask<Element>& mask, std::uint64_t max_packed) {
  const auto matrix = compact(mask.bytes(), mask.shape(), max_packed);
  if (!matrix) return 0;
  EXPECT_LE(matrix->packed.size(), max_packed);
  const std::vector<std::byte> result = spread(*matrix, mask.shape());
  EXPECT_TRUE(std::ranges::equal(result, mask.bytes()));
  return matrix->packed.size();
}

template <typename Element>
std::uint64_t packed_size(const Mask<Element>& mask) {
  return packed_size(mask, mask.size() / 4);
}

TEST(CompactMatrix, AMaskOfALongPromptTakesATwentiethOfIt) {
  for (const std::uint64_t known : {0, 1000, 7680}) {
    const auto mask = causal(8192, 512, known);
    const std::uint64_t size = packed_size(mask);
    EXPECT_GT(size, 0U);
    EXPECT_LT(size, mask.size() / 20) << known;
  }
}

TEST(CompactMatrix, WorksForSinglePrecisionToo) {
  auto mask = hidden<std::uint32_t>(4096, 256, 0xff80'0000);
  see(mask, 0, 256, 0, 3000);
  const std::uint64_t size = packed_size(mask);
  EXPECT_GT(size, 0U);
  EXPECT_LT(size, mask.size() / 16);
}

TEST(CompactMatrix, TwoSequencesInOneCache) {
  auto mask = hidden(4096, 300);
  see(mask, 0, 100, 0, 900);
  see(mask, 100, 200, 2000, 2001);
  EXPECT_GT(packed_size(mask), 0U);
}

TEST(CompactMatrix, AWindowThatMovesOnIsSentAsItIs) {
  auto mask = hidden(4096, 512);
  for (std::uint64_t row = 0; row < 512; ++row) {
    for (std::uint64_t column = 1000 + row; column < 2024 + row; ++column) mask.at(row, column) = 0;
  }
  // Its rows differ at both ends of the window, which no block of some columns holds.
  EXPECT_EQ(packed_size(mask), 0U);
}

TEST(CompactMatrix, RowsThatAreAllAlike) {
  const auto mask = hidden(1024, 64);
  EXPECT_EQ(packed_size(mask), 2048U);
}

TEST(CompactMatrix, SingleRowsAndColumns) {
  EXPECT_EQ(packed_size(causal(8, 1, 2), 4096), 256U);
  EXPECT_GT(packed_size(hidden(1, 100), 4096), 0U);
  auto mask = hidden(1, 100);
  mask.at(57, 0) = kSeen;
  EXPECT_GT(packed_size(mask, 4096), 0U);
}

TEST(CompactMatrix, NothingOfNothing) {
  EXPECT_FALSE(compact({}, {2, 0, 5}, 4096));
  EXPECT_FALSE(compact({}, {2, 5, 0}, 4096));
}

TEST(CompactMatrix, NoiseIsSentAsItIs) {
  std::mt19937 random(1);
  auto mask = hidden(1024, 512);
  for (auto& element : mask.elements) element = static_cast<std::uint16_t>(0x3c00 + random() % 64);
  EXPECT_EQ(packed_size(mask), 0U);
}

TEST(CompactMatrix, TakesNoMoreThanItMay) {
  const auto mask = causal(4096, 256, 100);
  const std::uint64_t size = packed_size(mask);
  EXPECT_EQ(packed_size(mask, size), size);
  EXPECT_EQ(packed_size(mask, size - 1), 0U);
}

// A device may take a subnormal number for zero, and change the bits of a NaN.
TEST(CompactMatrix, ValuesThatADeviceMightChangeAreSentAsTheyAre) {
  for (const std::uint16_t value : {0x0001, 0x83ff, 0x7c01, 0xfe00}) {
    auto mask = causal(1024, 256, 0);
    mask.at(100, 50) = value;
    EXPECT_EQ(packed_size(mask), 0U) << value;
  }
  for (const std::uint16_t value : {0x0400, 0x8000, 0x7c00, 0x7bff, 0xb800}) {
    auto mask = causal(1024, 256, 0);
    mask.at(100, 50) = value;
    EXPECT_GT(packed_size(mask), 0U) << value;
  }
  for (const std::uint32_t value : {0x0000'0001U, 0x807f'ffffU, 0x7f80'0001U}) {
    auto mask = hidden<std::uint32_t>(1024, 256, 0xff80'0000);
    mask.at(3, 5) = value;
    EXPECT_EQ(packed_size(mask), 0U) << value;
  }
}

TEST(CompactMatrix, WhateverIsPackedIsTheSameAgain) {
  std::mt19937 random(7);
  int packed = 0;
  for (int round = 0; round < 300; ++round) {
    const std::uint64_t columns = 1 + random() % 700;
    const std::uint64_t rows = 1 + random() % 90;
    auto mask = hidden(columns, rows);
    for (int change = static_cast<int>(random() % 5); change > 0; --change) {
      const std::uint64_t first_row = random() % rows;
      const std::uint64_t begin = random() % columns;
      const std::uint64_t end = std::min(columns, begin + random() % columns);
      const bool moves = random() % 2 == 0;
      for (std::uint64_t row = first_row; row < rows; ++row) {
        const std::uint64_t stop = std::min(columns, end + (moves ? row - first_row : 0));
        for (std::uint64_t column = begin; column < stop; ++column) {
          mask.at(row, column) = static_cast<std::uint16_t>(change % 2 == 0 ? kSeen : 0x3c00);
        }
      }
    }
    packed += packed_size(mask, 1 << 20) > 0 ? 1 : 0;
  }
  EXPECT_EQ(packed, 300);
}

}  // namespace
}  // namespace rpc_pipeline
