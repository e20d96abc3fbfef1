#include "rpc_pipeline/weight_hashes.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace rpc_pipeline {
namespace {

constexpr std::uint64_t kFnvPrime = 0x100000001b3U;
/// Line: "1 HASH FILE_SIZE CHANGED_NS OFFSET SIZE PATH". The first is the form of the line.
constexpr std::string_view kForm = "1";

/// Unrolled by hand, as compilers do it only at -O3: each hash in a register of its own.
template <std::size_t... I>
void advance(HashedStream* streams, std::size_t size, std::index_sequence<I...> /*indexes*/) {
  std::uint64_t hashes[] = {streams[I].hash...};
  const std::byte* const data[] = {streams[I].data...};
  for (std::size_t at = 0; at < size; ++at) {
    ((hashes[I] = (hashes[I] ^ std::to_integer<std::uint64_t>(data[I][at])) * kFnvPrime), ...);
  }
  ((streams[I].hash = hashes[I], streams[I].data += size), ...);
}

/// The word up to the next space, and takes both off.
std::string_view take_word(std::string_view& line) {
  const std::size_t length = line.find(' ');
  const std::string_view word = line.substr(0, length);
  line.remove_prefix(length == std::string_view::npos ? line.size() : length + 1);
  return word;
}

template <typename Number>
bool parse(std::string_view word, Number& number, int base = 10) {
  const char* const end = word.data() + word.size();
  const auto [rest, error] = std::from_chars(word.data(), end, number, base);
  return error == std::errc() && rest == end;
}

/// A path may hold any character, but a line has one end.
std::string escaped(const std::string& path) {
  std::string text;
  for (const char c : path) {
    if (c == '\\') {
      text += "\\\\";
    } else if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

std::string unescaped(std::string_view text) {
  std::string path;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\\' || at + 1 == text.size()) {
      path += text[at];
    } else {
      path += text[++at] == 'n' ? '\n' : text[at];
    }
  }
  return path;
}

/// As much as there is of `size` bytes at `offset`.
std::string read_at(int fd, std::uint64_t offset, std::size_t size) {
  std::string text(size, '\0');
  std::size_t filled = 0;
  while (filled < size) {
    const ssize_t count =
        ::pread(fd, text.data() + filled, size - filled, static_cast<off_t>(offset + filled));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    filled += static_cast<std::size_t>(count);
  }
  text.resize(filled);
  return text;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

/// Puts `text` in the file's place. What another process appends meanwhile is lost, and computed
/// again.
void replace(const std::string& path, std::string_view text) {
  const std::string fresh = path + "." + std::to_string(::getpid()) + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return;
  const bool written = write_all(fd, text);
  if (::close(fd) != 0 || !written || std::rename(fresh.c_str(), path.c_str()) != 0) {
    ::unlink(fresh.c_str());
  }
}

/// The whole lines of the file, the newer half if it has grown too long; and cuts it to that.
std::string read_lines(const std::string& path) {
  // A pipe or a device can lie there too, and reading it could take for ever.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return {};
  struct stat status{};
  std::string text;
  if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
    const auto size = static_cast<std::uint64_t>(status.st_size);
    const bool cut = size > WeightHashes::kMaxFileSize;
    const std::uint64_t skip = cut ? size - WeightHashes::kMaxFileSize / 2 : 0;
    text = read_at(fd, skip, static_cast<std::size_t>(size - skip));
    if (cut) {
      const std::size_t end = text.find('\n');
      text.erase(0, end == std::string::npos ? text.size() : end + 1);
      replace(path, text);
    }
  }
  ::close(fd);
  return text;
}

}  // namespace

std::uint64_t fnv1a(std::span<const std::byte> data, std::uint64_t hash) {
  HashedStream stream{.hash = hash, .data = data.data()};
  advance(&stream, data.size(), std::make_index_sequence<1>());
  return stream.hash;
}

void fnv1a_together(std::span<HashedStream> streams, std::size_t size) {
  static_assert(kStreamsTogether == 4);
  switch (streams.size()) {
    case 0:
      return;
    case 1:
      return advance(streams.data(), size, std::make_index_sequence<1>());
    case 2:
      return advance(streams.data(), size, std::make_index_sequence<2>());
    case 3:
      return advance(streams.data(), size, std::make_index_sequence<3>());
    default:
      return advance(streams.data(), size, std::make_index_sequence<4>());
  }
}

WeightHashes::WeightHashes(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  const std::string text = read_lines(path_);
  std::string_view rest = text;
  for (std::size_t end; (end = rest.find('\n')) != std::string_view::npos;) {
    read_line(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  torn_ = !rest.empty();
}

std::optional<std::uint64_t> WeightHashes::find(const FileRange& range) const {
  const std::lock_guard lock(mutex_);
  const auto known = known_.find(key_of(range));
  if (known == known_.end()) return std::nullopt;
  return known->second;
}

void WeightHashes::add(const FileRange& range, std::uint64_t hash) {
  const std::lock_guard lock(mutex_);
  known_.insert_or_assign(key_of(range), hash);
  if (path_.empty()) return;
  const WeightFile& file = *range.file;
  std::array<char, 128> numbers;
  const int length = std::snprintf(
      numbers.data(), numbers.size(), "%s %016llx %llu %lld %llu %llu ", kForm.data(),
      static_cast<unsigned long long>(hash), static_cast<unsigned long long>(file.size),
      static_cast<long long>(file.changed_ns), static_cast<unsigned long long>(range.offset),
      static_cast<unsigned long long>(range.size));
  append(std::string(numbers.data(), static_cast<std::size_t>(length)) + escaped(file.path) + '\n');
}

WeightHashes::Key WeightHashes::key_of(const FileRange& range) {
  return {range.file->path, range.file->size, range.file->changed_ns, range.offset, range.size};
}

void WeightHashes::read_line(std::string_view line) {
  if (take_word(line) != kForm) return;
  std::uint64_t hash = 0;
  auto key = Key{};
  auto& [path, file_size, changed_ns, offset, size] = key;
  const std::string_view digits = take_word(line);
  if (digits.size() != 16 || !parse(digits, hash, 16)) return;
  if (!parse(take_word(line), file_size) || !parse(take_word(line), changed_ns)) return;
  if (!parse(take_word(line), offset) || !parse(take_word(line), size)) return;
  if (offset > file_size || size > file_size - offset || !line.starts_with('/')) return;
  path = unescaped(line);
  known_.insert_or_assign(std::move(key), hash);
}

void WeightHashes::append(std::string line) {
  const int fd =
      ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
  if (fd < 0) return;
  // Half a line, from a disk that was full, must not spoil this one.
  if (torn_) line.insert(0, 1, '\n');
  const ssize_t count = ::write(fd, line.data(), line.size());
  if (count > 0) torn_ = static_cast<std::size_t>(count) < line.size();
  ::close(fd);
}

}  // namespace rpc_pipeline
