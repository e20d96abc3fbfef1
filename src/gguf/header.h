// The header of a GGUF file, version 2 or 3: what a model is, without its weights. Values; any
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/byte_source.h"
#include "gguf/metadata.h"

namespace yoke::gguf {

inline constexpr ErrorCode kGgufInvalid{"gguf_invalid"};          // Something else, or damaged.
inline constexpr ErrorCode kGgufTruncated{"gguf_truncated"};      // It ends too early.
inline constexpr ErrorCode kGgufUnsupported{"gguf_unsupported"};  // Of a form Yoke doesn't read.

struct Tensor {
  std::string name;
  std::array<std::uint64_t, 4> dims{1, 1, 1, 1};  // The fastest-changing first.
  std::uint32_t dim_count = 0;                    // So many of them the file has.
  std::uint32_t type = 0;                         // See tensor_type.h; may be unknown.
  std::uint64_t offset = 0;                       // From the begin of its file's data, in bytes.
  std::uint64_t bytes = 0;                        // Up to the next tensor if the type is unknown.
  std::uint32_t part = 0;                         // Index of its file in a split model.
  std::uint64_t elements() const { return dims[0] * dims[1] * dims[2] * dims[3]; }  // < 2^44
};

// What split.* says of a file that is one of several.
struct Split {
  std::uint32_t number = 0;  // From 0.
  std::uint32_t count = 0;
  std::optional<std::uint64_t> tensors;  // In all parts together.
};

struct Header {
  std::string name;  // The source's.
  std::uint32_t version = 0;
  std::uint64_t alignment = 0;
  Metadata metadata;
  std::vector<Tensor> tensors;     // By offset.
  std::uint64_t header_bytes = 0;  // Where it ends,
  std::uint64_t data_offset = 0;   // and where the first tensor can begin.
  std::uint64_t file_bytes = 0;    // The source's size; if that is unknown, up to the last tensor.
  std::optional<Split> split;      // None for a model in one file.
};

// What is read at most, so that a hostile file costs little. Real models are far below.
struct Limits {
  std::uint64_t header_bytes = std::uint64_t{256} << 20;
  std::uint64_t keys = 16'384;
  std::uint64_t tensors = 262'144;
  std::uint64_t key_bytes = 1024;
  std::uint64_t tensor_name_bytes = 255;
  std::uint64_t string_bytes = std::uint64_t{16} << 20;      // Of one value,
  std::uint64_t all_string_bytes = std::uint64_t{64} << 20;  // and of all that are kept.
  std::uint64_t kept_numbers = 4096;         // An array with more of them is cut to `shown`,
  std::uint64_t all_kept_numbers = 262'144;  // as is one when so many are kept already.
  std::uint64_t shown = 8;
  std::uint64_t shown_bytes = 256;  // Of each string of an array.
};

// Reads the header only. The errors above, each in one sentence that says what the source is and
// what was expected; also what the source returned.
Result<Header> read_header(ByteSource& source, const Limits& limits = {});

}  // namespace yoke::gguf
