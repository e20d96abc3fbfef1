// Hashes of weights that are known from earlier: a text file, a line a tensor, that Yoke keeps
// beside its catalogue. A hash counts only for the same path, size and time of change. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>

#include "rpc_pipeline/weight_source.h"

namespace rpc_pipeline {

constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325U;

/// 64-bit FNV-1a of data, as ggml-rpc-server computes it for its cache (Fowler, Noll, Vo:
/// draft-eastlake-fnv). `hash`: of what came before.
std::uint64_t fnv1a(std::span<const std::byte> data, std::uint64_t hash = kFnvBasis);

/// One of several hashes that advance together.
struct HashedStream {
  std::uint64_t hash = kFnvBasis;
  const std::byte* data = nullptr;
};

/// Streams that fnv1a_together() takes. Each step of a hash waits 4 cycles for the one before it,
/// so four of them take hardly longer than one.
constexpr std::size_t kStreamsTogether = 4;

/// Hashes the next `size` bytes of each of up to kStreamsTogether streams; moves `data` on.
void fnv1a_together(std::span<HashedStream> streams, std::size_t size);

class WeightHashes {
 public:
  /// The file is cut to its newer half when it is found longer: room for some 100,000 tensors.
  static constexpr std::size_t kMaxFileSize = std::size_t{16} << 20;

  /// `path`: the file; empty: nothing is known or kept. A missing or damaged file is no error:
  /// lines that can't be read are passed over.
  explicit WeightHashes(std::string path);

  std::optional<std::uint64_t> find(const FileRange& range) const;

  /// Remembers a hash, and appends it to the file (one write, so that two processes may do it at
  /// once). A full disk is no error: it is computed again next time.
  void add(const FileRange& range, std::uint64_t hash);

 private:
  using Key = std::tuple<std::string, std::uint64_t, std::int64_t, std::uint64_t, std::uint64_t>;

  static Key key_of(const FileRange& range);
  void read_line(std::string_view line);
  void append(std::string line);

  const std::string path_;
  mutable std::mutex mutex_;
  std::map<Key, std::uint64_t> known_;
  bool torn_ = false;  ///< The file's last line has no end.
};

}  // namespace rpc_pipeline
