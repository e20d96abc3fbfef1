// Checksums of files, over OpenSSL. One thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke::models {

class Digest {
 public:
  enum class Kind { kSha1, kSha256 };
  explicit Digest(Kind kind);
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  void add(std::string_view bytes);
  // In hexadecimal digits; once.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Which checksum a file has to have.
struct Checksum {
  enum class Kind { kNone, kSha256, kGitBlob };  // What git calls a file: SHA-1 of size and bytes.
  Kind kind = Kind::kNone;
  std::string hex{};  // In small letters.
  friend bool operator==(const Checksum&, const Checksum&) = default;
};

// Of an open file from its front; `on_read` gets how many bytes were read so far and may end it by
// returning false: kCancelled. kIo. Empty for kNone.
Result<std::string> checksum_of(int fd, std::uint64_t bytes, Checksum::Kind kind,
                                const std::function<bool(std::uint64_t)>& on_read);

}  // namespace yoke::models
