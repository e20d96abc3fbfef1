#include "hardware/noted_files.h"

#include <utility>

#include <fmt/format.h>

namespace yoke::hardware {

void NotedFiles::note(std::string text) const {
  constexpr std::size_t kMostNotes = 64;
  if (notes_->size() < kMostNotes) {
    notes_->push_back(std::move(text));
  } else if (notes_->size() == kMostNotes) {
    notes_->emplace_back("More was skipped.");
  }
}

template <class T>
std::optional<T> NotedFiles::noted(Result<T> result) const {
  if (result) return *std::move(result);
  if (result.error().code != kHostFileMissing) note(std::move(result.error().message));
  return std::nullopt;
}

std::optional<std::string> NotedFiles::read(std::string_view path, std::size_t limit) const {
  return noted(files_->read(path, limit));
}

std::optional<std::string> NotedFiles::read_if_allowed(std::string_view path,
                                                       std::size_t limit) const {
  auto content = files_->read(path, limit);
  return content ? std::optional(*std::move(content)) : std::nullopt;
}

std::optional<std::string> NotedFiles::line(std::string_view path) const {
  return noted(files_->read_line(path));
}

std::optional<std::uint64_t> NotedFiles::number(std::string_view path) const {
  return noted(files_->read_number(path));
}

std::optional<std::uint64_t> NotedFiles::size(std::string_view path) const {
  const auto bytes = number(path);
  if (!bytes || *bytes <= kLargestSize) return bytes;
  note(fmt::format("{} is no size that memory can have: {}.", path, *bytes));
  return std::nullopt;
}

std::optional<std::string> NotedFiles::link_name(std::string_view path) const {
  return noted(files_->link_name(path));
}

std::vector<std::string> NotedFiles::list(std::string_view path) const {
  return noted(files_->list(path)).value_or(std::vector<std::string>());
}

}  // namespace yoke::hardware
