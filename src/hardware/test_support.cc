#include "hardware/test_support.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <unistd.h>

#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

constexpr std::string_view kMark = "== ";
constexpr std::uint64_t kLargestFill = 64u << 20;

[[noreturn]] void stop(const std::string& message, std::string_view detail) {
  throw std::runtime_error(message + ": " + std::string(detail));
}

std::uint64_t number_of(std::string_view text, int base) {
  const auto number = parse_digits(text, base);
  if (!number) stop("no number", text);
  return *number;
}

std::string from_hex(std::string_view text) {
  std::string bytes;
  for (std::string_view word = take_word(text); !word.empty(); word = take_word(text)) {
    for (std::size_t i = 0; i < word.size(); i += 2) {
      bytes.push_back(static_cast<char>(number_of(word.substr(i, 2), 16)));
    }
  }
  return bytes;
}

// The lines up to the next header or the end.
std::string_view take_content(std::string_view& tree) {
  const std::string_view all = tree;
  while (!tree.empty() && !tree.starts_with(kMark)) take_line(tree);
  return all.substr(0, all.size() - tree.size());
}

}  // namespace

FakeRoot::FakeRoot() {
  std::string name = (std::filesystem::temp_directory_path() / "yoke-root-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) stop("mkdtemp", name);
  path_ = name;
}

// Delegates, so that the directory goes when unpack() throws.
FakeRoot::FakeRoot(std::string_view tree) : FakeRoot() { unpack(tree); }

FakeRoot FakeRoot::machine(std::string_view name) {
  const auto file = std::filesystem::path(YOKE_TEST_MACHINES) / (std::string(name) + ".tree");
  std::ifstream in(file, std::ios::binary);
  if (!in) stop("can't open", file.string());
  return FakeRoot(std::string(std::istreambuf_iterator<char>(in), {}));
}

FakeRoot::FakeRoot(FakeRoot&& other) noexcept : path_(std::move(other.path_)) {
  other.path_.clear();
}

FakeRoot::~FakeRoot() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path FakeRoot::at(std::string_view path) const {
  if (!path.starts_with('/')) stop("no absolute path", path);
  return path_ / path.substr(1);
}

// The place of `path`, with the directory that it is to lie in.
std::filesystem::path FakeRoot::ready(std::string_view path) const {
  const std::filesystem::path place = at(path);
  const auto parent = std::filesystem::weakly_canonical(place.parent_path());
  const auto root = std::filesystem::canonical(path_);
  if (!(parent.string() + "/").starts_with(root.string() + "/")) stop("leads out", path);
  std::filesystem::create_directories(parent);
  return parent / place.filename();
}

void FakeRoot::write(std::string_view path, std::string_view content) {
  const auto place = ready(path);
  if (std::filesystem::is_symlink(place)) std::filesystem::remove(place);
  std::ofstream out(place, std::ios::binary | std::ios::trunc);
  if (!out.write(content.data(), static_cast<std::streamsize>(content.size())).flush()) {
    stop("can't write", place.string());
  }
}

void FakeRoot::link(std::string_view path, std::string_view target) {
  const auto place = ready(path);
  std::filesystem::remove(place);
  std::filesystem::create_symlink(target, place);
}

void FakeRoot::make_directory(std::string_view path) {
  std::filesystem::create_directories(ready(path));
}

void FakeRoot::remove(std::string_view path) { std::filesystem::remove_all(ready(path)); }

HostFiles FakeRoot::files() const {
  auto files = HostFiles::open(path_);
  if (!files) stop("can't open root", files.error().message);
  return *std::move(files);
}

void FakeRoot::unpack(std::string_view tree) {
  take_content(tree);  // The comment.
  while (!tree.empty()) {
    const std::string_view header = take_line(tree);
    const std::string_view content = take_content(tree);
    std::string_view rest = header.substr(kMark.size());
    const std::string_view kind = take_word(rest);
    const std::string_view path = take_word(rest);
    if (kind == "file") {
      write(path, content);
    } else if (kind == "hex") {
      write(path, from_hex(content));
    } else if (kind == "fill") {
      const std::uint64_t count = number_of(take_word(rest), 10);
      if (count > kLargestFill) stop("too large", header);
      write(path, std::string(count, take_word(rest).at(0)));
    } else if (kind == "dir") {
      make_directory(path);
    } else if (kind == "link" && take_word(rest) == "->") {
      link(path, trim(rest));
    } else if (kind == "node") {
      write(path, {});
      const auto mode = static_cast<std::filesystem::perms>(number_of(take_word(rest), 8));
      std::filesystem::permissions(at(path), mode);
      const auto uid = static_cast<uid_t>(number_of(take_word(rest), 10));
      const auto gid = static_cast<gid_t>(number_of(take_word(rest), 10));
      if (::geteuid() == 0 && ::chown(at(path).c_str(), uid, gid) != 0) stop("chown", path);
    } else {
      stop("unknown entry", header);
    }
  }
}

}  // namespace yoke::hardware
