#include "contexts/slot_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <span>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/unique_fd.h"

namespace yoke::contexts {
namespace {

static_assert(std::endian::native == std::endian::little, "Engines write as this machine does.");

constexpr std::uint32_t kMagic = 0x67677371;
constexpr std::size_t kHeaderWords = 3;  // Magic, version, number of words that follow.
constexpr std::size_t kMaxWords = 16u << 20;
// Since the middle of 2026 the words are not the tokens but begin with this mark, a version and the
// number of tokens; behind them is what stands for images.
constexpr std::int32_t kPacked = -1;
constexpr std::int32_t kPackedVersion = 1;
constexpr std::size_t kPackedHead = 3;

tl::unexpected<Error> unfit(const std::filesystem::path& path, std::string_view what) {
  return fail(kIo, fmt::format("{} {}.", path.string(), what));
}

bool read_at(int fd, std::size_t offset, std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

Result<std::vector<std::int32_t>> unpack(const std::filesystem::path& path,
                                         std::vector<std::int32_t> words) {
  if (!words.empty() && words.front() == kPacked) {
    if (words.size() < kPackedHead || words[1] != kPackedVersion || words[2] < 0 ||
        static_cast<std::size_t>(words[2]) > words.size() - kPackedHead) {
      return unfit(path, "holds tokens in a form that Yoke does not know");
    }
    const auto count = static_cast<std::size_t>(words[2]);
    words.erase(words.begin(), words.begin() + kPackedHead);
    words.resize(count);
  }
  const auto end = std::ranges::find_if(words, [](std::int32_t token) { return token < 0; });
  words.erase(end, words.end());
  return words;
}

}  // namespace

Result<SlotFile> read_slot_file(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  if (!fd || ::fstat(fd.get(), &status) != 0) {
    return unfit(path, fmt::format("can't be opened: {}", std::strerror(errno)));
  }
  if (!S_ISREG(status.st_mode)) return unfit(path, "is no regular file");
  SlotFile file;
  file.bytes = static_cast<std::uint64_t>(status.st_size);
  file.modified_ns = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  std::array<std::uint32_t, kHeaderWords> head{};
  if (!read_at(fd.get(), 0, std::as_writable_bytes(std::span(head)))) {
    return unfit(path, "ends within its header");
  }
  if (head[0] != kMagic) return unfit(path, "is no saved slot of llama-server");
  const std::size_t count = head[2];
  if (count > kMaxWords || count > (file.bytes - sizeof head) / sizeof(std::int32_t)) {
    return unfit(path, "claims more tokens than it can hold");
  }
  std::vector<std::int32_t> words(count);
  if (!read_at(fd.get(), sizeof head, std::as_writable_bytes(std::span(words)))) {
    return unfit(path, "ends within its tokens");
  }
  YOKE_TRY(file.tokens, unpack(path, std::move(words)));
  return file;
}

std::size_t common_beginning(const std::vector<std::int32_t>& a,
                             const std::vector<std::int32_t>& b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace yoke::contexts
