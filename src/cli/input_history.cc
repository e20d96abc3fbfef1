#include "cli/input_history.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>

#include <fmt/format.h>

#include "base/unique_fd.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeptLines = 1000;

Error file_error(std::string_view what, const fs::path& file) {
  return {kIo, fmt::format("Cannot {} {}: {}.", what, file.string(), std::strerror(errno))};
}

Result<void> write_all(const fs::path& file, int flags, std::string_view text) {
  const UniqueFd fd(::open(file.c_str(), flags | O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!fd || ::fchmod(fd.get(), 0600) != 0) return fail(file_error("write to", file));
  // One write, so that the lines of two chats do not mix.
  const ssize_t written = ::write(fd.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) return fail(file_error("write to", file));
  return {};
}

}  // namespace

Result<std::vector<std::string>> InputHistory::load() {
  std::vector<std::string> lines;
  std::ifstream in(file_);
  if (!in) {
    if (errno == ENOENT) return lines;
    return fail(file_error("read", file_));
  }
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) lines.push_back(std::move(line));
  }
  if (lines.size() <= kKeptLines) return lines;
  const bool long_file = lines.size() > 2 * kKeptLines;
  lines.erase(lines.begin(), lines.end() - kKeptLines);
  if (long_file) YOKE_CHECK(rewrite(lines));
  return lines;
}

Result<void> InputHistory::append(std::string_view line) {
  std::error_code error;
  fs::create_directories(file_.parent_path(), error);
  return write_all(file_, O_APPEND, std::string(line) + "\n");
}

Result<void> InputHistory::rewrite(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  fs::path fresh = file_;
  fresh += ".new";
  YOKE_CHECK(write_all(fresh, O_TRUNC, text));
  if (::rename(fresh.c_str(), file_.c_str()) != 0) return fail(file_error("replace", file_));
  return {};
}

}  // namespace yoke::cli
