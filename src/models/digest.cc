#include "models/digest.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>
#include <openssl/evp.h>

namespace yoke::models {

struct Digest::Impl {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { ::EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{::EVP_MD_CTX_new()};
};

Digest::Digest(Kind kind) : impl_(std::make_unique<Impl>()) {
  const EVP_MD* const type = kind == Kind::kSha1 ? ::EVP_sha1() : ::EVP_sha256();
  ::EVP_DigestInit_ex(impl_->context.get(), type, nullptr);
}

Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::add(std::string_view bytes) {
  ::EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size());
}

std::string Digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned int size = 0;
  if (::EVP_DigestFinal_ex(impl_->context.get(), raw.data(), &size) != 1) return {};
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", raw[i]);
  return hex;
}

Result<std::string> checksum_of(int fd, std::uint64_t bytes, Checksum::Kind kind,
                                const std::function<bool(std::uint64_t)>& on_read) {
  if (kind == Checksum::Kind::kNone) return std::string();
  Digest digest(kind == Checksum::Kind::kSha256 ? Digest::Kind::kSha256 : Digest::Kind::kSha1);
  if (kind == Checksum::Kind::kGitBlob) {
    const std::string head = fmt::format("blob {}", bytes);
    digest.add({head.c_str(), head.size() + 1});
  }
  constexpr std::size_t kStep = 1 << 20;
  std::vector<char> buffer(kStep);
  for (std::uint64_t done = 0; done < bytes;) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(kStep, bytes - done));
    const ssize_t got = ::pread(fd, buffer.data(), wanted, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return fail(kIo, fmt::format("A downloaded file can't be read: {}.",
                                   got < 0 ? std::strerror(errno) : "it became shorter"));
    }
    digest.add({buffer.data(), static_cast<std::size_t>(got)});
    done += static_cast<std::uint64_t>(got);
    if (on_read && !on_read(done)) return fail(kCancelled, "Interrupted.");
  }
  return digest.finish();
}

}  // namespace yoke::models
