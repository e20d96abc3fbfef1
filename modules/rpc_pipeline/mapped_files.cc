#include "rpc_pipeline/mapped_files.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <limits>
#include <sys/stat.h>
#include <unistd.h>

namespace rpc_pipeline {
namespace {

constexpr std::size_t kMaxMaps = std::size_t{16} << 20;

/// The text up to `end`, and takes both off; nothing if there is no `end`.
std::optional<std::string_view> take_until(std::string_view& text, char end) {
  const std::size_t length = text.find(end);
  if (length == std::string_view::npos) return std::nullopt;
  const std::string_view taken = text.substr(0, length);
  text.remove_prefix(length + 1);
  return taken;
}

template <typename Number>
bool parse(std::optional<std::string_view> text, int base, Number& number) {
  if (!text || text->empty()) return false;
  const char* const end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, number, base);
  return error == std::errc() && rest == end;
}

/// The kernel escapes line ends, and nothing else: not even the backslash.
std::string unescaped(std::string_view path) {
  constexpr std::string_view kLineEnd = "\\012";
  std::string plain;
  for (std::size_t at; (at = path.find(kLineEnd)) != std::string_view::npos;) {
    plain.append(path.substr(0, at)).push_back('\n');
    path.remove_prefix(at + kLineEnd.size());
  }
  return plain.append(path);
}

/// "7f1200000000-7f1200001000 r--s 00000000 fd:01 1234        /models/a b.gguf"
std::optional<Mapping> parse_line(std::string_view line) {
  Mapping mapping;
  if (!parse(take_until(line, '-'), 16, mapping.begin)) return std::nullopt;
  if (!parse(take_until(line, ' '), 16, mapping.end)) return std::nullopt;
  const auto access = take_until(line, ' ');
  if (!access || access->size() != 4 || access->front() != 'r' || access->back() != 's') {
    return std::nullopt;
  }
  if (!parse(take_until(line, ' '), 16, mapping.offset)) return std::nullopt;
  if (!take_until(line, ' ')) return std::nullopt;  // The device.
  if (!parse(take_until(line, ' '), 10, mapping.inode)) return std::nullopt;

  const std::size_t path = line.find_first_not_of(' ');
  if (path == std::string_view::npos || line[path] != '/') return std::nullopt;
  line.remove_prefix(path);
  if (line.ends_with(" (deleted)") || mapping.begin >= mapping.end) return std::nullopt;
  if (mapping.offset > std::numeric_limits<std::uint64_t>::max() - (mapping.end - mapping.begin)) {
    return std::nullopt;
  }
  mapping.path = unescaped(line);
  return mapping;
}

/// Empty if they can't be read.
std::string read_maps() {
  std::string text;
  const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  std::array<char, 65536> block;
  while (text.size() < kMaxMaps) {
    const ssize_t count = ::read(fd, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    text.append(block.data(), static_cast<std::size_t>(count));
  }
  ::close(fd);
  return text;
}

bool continues(const Mapping& before, const Mapping& next) {
  return next.begin == before.end && next.offset == before.offset + (before.end - before.begin) &&
         next.inode == before.inode && next.path == before.path;
}

/// The mapping that [begin, end) starts in, if it and what continues it reach up to the end.
const Mapping* covering(const std::vector<Mapping>& mappings, std::uintptr_t begin,
                        std::uintptr_t end) {
  const Mapping* first = nullptr;
  const Mapping* last = nullptr;
  for (const Mapping& mapping : mappings) {
    if (first == nullptr) {
      if (mapping.begin > begin || begin >= mapping.end) continue;
      first = &mapping;
    } else if (!continues(*last, mapping)) {
      return nullptr;
    }
    last = &mapping;
    if (end <= last->end) return first;
  }
  return nullptr;
}

}  // namespace

std::vector<Mapping> parse_mappings(std::string_view text) {
  std::vector<Mapping> mappings;
  while (const auto line = take_until(text, '\n')) {
    if (auto mapping = parse_line(*line)) mappings.push_back(std::move(*mapping));
  }
  return mappings;
}

std::optional<FileRange> MappedFiles::find(const void* data, std::uint64_t size) {
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  if (size == 0 || size > std::numeric_limits<std::uintptr_t>::max() - begin) return std::nullopt;
  const std::vector<Mapping> mappings = parse_mappings(read_maps());
  const Mapping* const mapping = covering(mappings, begin, begin + size);
  if (mapping == nullptr) return std::nullopt;

  FileRange range{
      .file = opened(*mapping), .offset = mapping->offset + (begin - mapping->begin), .size = size};
  // A mapping reaches up to the end of its last page, beyond the file's end.
  if (!range.file || range.offset > range.file->size || size > range.file->size - range.offset) {
    return std::nullopt;
  }
  return range;
}

std::shared_ptr<const WeightFile> MappedFiles::opened(const Mapping& mapping) {
  const std::lock_guard lock(mutex_);
  auto& known = open_[{mapping.path, mapping.inode}];
  if (auto file = known.lock()) return file;
  auto file = WeightFile::open(mapping.path);
  struct stat status{};
  // Another file can have taken the name since the mapping was made.
  if (!file || ::fstat(file->fd, &status) != 0 || status.st_ino != mapping.inode) {
    open_.erase({mapping.path, mapping.inode});
    return nullptr;
  }
  known = file;
  return file;
}

}  // namespace rpc_pipeline
