#include "models/part_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <optional>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "models/pull.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::size_t kMostStateBytes = 1 << 20;
constexpr mode_t kMode = 0644;

UniqueFd open_file(const fs::path& path, int flags) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, kMode));
}

Result<void> write_all(int fd, const fs::path& path, std::uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(write_error(path, errno));
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return {};
}

Result<void> make_durable(int fd, const fs::path& path) {
  if (::fdatasync(fd) == 0) return {};
  return fail(write_error(path, errno));
}

// A name in a directory is durable when the directory is. Where it can't be opened, as on some
// network file systems, there is nothing to be done.
void make_names_durable(const fs::path& directory) {
  const UniqueFd fd = open_file(directory, O_RDONLY | O_DIRECTORY);
  if (fd) ::fsync(fd.get());
}

struct State {
  Identity identity;
  ByteRanges done;
};

std::optional<ByteRanges> read_ranges(const json::value& value, std::uint64_t bytes) {
  const json::array* const list = value.if_array();
  if (list == nullptr) return std::nullopt;
  ByteRanges ranges;
  for (const json::value& item : *list) {
    const json::array* const pair = item.if_array();
    if (pair == nullptr || pair->size() != 2) return std::nullopt;
    const std::int64_t* const first = pair->front().if_int64();
    const std::int64_t* const end = pair->back().if_int64();
    if (first == nullptr || end == nullptr || *first < 0 || *end <= *first) return std::nullopt;
    if (static_cast<std::uint64_t>(*end) > bytes) return std::nullopt;
    ranges.add(static_cast<std::uint64_t>(*first), static_cast<std::uint64_t>(*end - *first));
  }
  return ranges;
}

// None if there is no such file, or one that nobody can go by.
std::optional<State> read_state(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMostStateBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.empty() || text.size() == kMostStateBytes) return std::nullopt;
  const Result<json::value> value = parse_json(text);
  if (!value || !value->is_object()) return std::nullopt;
  const Result<JsonFields> fields = JsonFields::of(*value);
  const auto bytes = fields ? fields->integer("bytes") : fail(kIo, "");
  const auto mark = fields ? fields->string("mark") : fail(kIo, "");
  const json::value* const done = value->get_object().if_contains("done");
  if (!bytes || *bytes < 0 || !mark || done == nullptr) return std::nullopt;
  State state{{static_cast<std::uint64_t>(*bytes), *mark}, {}};
  auto ranges = read_ranges(*done, state.identity.bytes);
  if (!ranges) return std::nullopt;
  state.done = std::move(*ranges);
  return state;
}

}  // namespace

Error write_error(const fs::path& path, int error) {
  if (error == ENOSPC || error == EDQUOT) {
    return {kDiskFull, fmt::format("No space is left for {}.", path.string()),
            "Make room, and run it again: it goes on where it was."};
  }
  return {kIo, fmt::format("{} can't be written: {}.", path.string(), std::strerror(error)),
          "Correct that, and run it again: it goes on where it was."};
}

fs::path PartFile::part_path(const fs::path& final_path) { return final_path.string() + ".part"; }

fs::path PartFile::state_path(const fs::path& final_path) {
  return final_path.string() + ".part.json";
}

std::uint64_t PartFile::space_taken(const fs::path& final_path) {
  struct stat status{};
  if (::stat(part_path(final_path).c_str(), &status) != 0) return 0;
  constexpr std::uint64_t kBlock = 512;
  return static_cast<std::uint64_t>(status.st_blocks) * kBlock;
}

std::optional<std::uint64_t> PartFile::durable(const fs::path& final_path) {
  std::error_code error;
  if (!fs::exists(part_path(final_path), error)) return std::nullopt;
  const std::optional<State> state = read_state(state_path(final_path));
  return state ? state->done.count() : 0;
}

void PartFile::remove(const fs::path& final_path) {
  // The state first: without it the part is nothing.
  std::error_code error;
  fs::remove(state_path(final_path), error);
  fs::remove(state_path(final_path).string() + ".new", error);
  fs::remove(part_path(final_path), error);
}

Result<PartFile> PartFile::open(const fs::path& final_path, const Identity& identity) {
  const fs::path path = part_path(final_path);
  std::optional<State> state = read_state(state_path(final_path));
  const bool same = state && !identity.mark.empty() && state->identity == identity;
  if (!same) remove(final_path);
  UniqueFd fd = open_file(path, O_RDWR | O_CREAT);
  if (!fd) return fail(write_error(path, errno));
  PartFile part(final_path, identity, std::move(fd));
  part.changed_ = state.has_value() && !same;
  struct stat status{};
  if (::fstat(part.fd_.get(), &status) != 0) return fail(write_error(path, errno));
  // Somebody may have removed the part, or cut it.
  const bool whole = static_cast<std::uint64_t>(status.st_size) == identity.bytes;
  if (same && whole) {
    part.done_ = std::move(state->done);
    part.resumed_ = part.done_.count() > 0;
    return part;
  }
  YOKE_CHECK(part.restart());
  return part;
}

Result<void> PartFile::take_space() const {
  if (identity_.bytes == 0) return {};
  const auto size = static_cast<off_t>(identity_.bytes);
  int taken = 0;
  do {
    taken = ::fallocate(fd_.get(), 0, 0, size);
  } while (taken != 0 && errno == EINTR);
  if (taken == 0) return {};
  if (errno == ENOSPC || errno == EDQUOT) return fail(write_error(part_path(path_), errno));
  // A file system that can't: the file has holes, and the space is taken as it fills.
  if (::ftruncate(fd_.get(), size) == 0) return {};
  return fail(write_error(part_path(path_), errno));
}

Result<void> PartFile::restart() {
  done_ = {};
  std::error_code error;
  fs::remove(state_path(path_), error);
  if (::ftruncate(fd_.get(), 0) != 0) return fail(write_error(part_path(path_), errno));
  return take_space();
}

Result<void> PartFile::write(std::uint64_t offset, std::string_view bytes) {
  YOKE_CHECK(write_all(fd_.get(), part_path(path_), offset, bytes));
  done_.add(offset, bytes.size());
  return {};
}

Result<void> PartFile::save() {
  if (identity_.mark.empty()) return {};
  YOKE_CHECK(make_durable(fd_.get(), part_path(path_)));
  return write_state();
}

Result<void> PartFile::write_state() const {
  json::array ranges;
  for (const auto& [first, end] : done_.ranges()) {
    ranges.push_back(json::array{static_cast<std::int64_t>(first), static_cast<std::int64_t>(end)});
  }
  const json::object state{{"bytes", static_cast<std::int64_t>(identity_.bytes)},
                           {"mark", identity_.mark},
                           {"done", std::move(ranges)}};
  const fs::path path = state_path(path_);
  const fs::path fresh = path.string() + ".new";
  const UniqueFd fd = open_file(fresh, O_WRONLY | O_CREAT | O_TRUNC);
  if (!fd) return fail(write_error(fresh, errno));
  YOKE_CHECK(write_all(fd.get(), fresh, 0, json_text(state) + "\n"));
  YOKE_CHECK(make_durable(fd.get(), fresh));
  if (::rename(fresh.c_str(), path.c_str()) == 0) return {};
  return fail(write_error(path, errno));
}

Result<void> PartFile::finish() {
  YOKE_CHECK(make_durable(fd_.get(), part_path(path_)));
  if (::rename(part_path(path_).c_str(), path_.c_str()) != 0) {
    return fail(write_error(path_, errno));
  }
  make_names_durable(path_.parent_path());
  remove(path_);
  return {};
}

}  // namespace yoke::models
