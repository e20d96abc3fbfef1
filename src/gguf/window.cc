#include "gguf/window.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "gguf/header.h"

namespace yoke::gguf {
namespace {

constexpr std::size_t kLongestStep = 4 << 20;

tl::unexpected<Error> ends_early(const ByteSource& source) {
  return fail(
      kGgufTruncated,
      fmt::format("{} is incomplete or damaged: the header of a GGUF file was expected, and "
                  "the file ends within it.",
                  source.name()),
      "Download it again, from a direct link to the file.");
}

}  // namespace

Result<void> Window::check(std::uint64_t count) const {
  const auto size = source_.size();
  if (size && count > *size - std::min(*size, position_)) return ends_early(source_);
  if (count <= limit_ - position_) return {};
  return fail(kGgufUnsupported,
              fmt::format("{} has a header of more than {}, which is the most that Yoke reads.",
                          source_.name(), format_memory(limit_)),
              "It is damaged, most likely: download it again.");
}

Result<void> Window::fill(std::size_t count) {
  const std::uint64_t size = std::min(source_.size().value_or(limit_), limit_);
  const auto wanted =
      static_cast<std::size_t>(std::min<std::uint64_t>(std::max(count, step_), size - position_));
  step_ = std::min(step_ * 2, kLongestStep);
  bytes_.resize(wanted);
  bytes_start_ = position_;
  const Result<std::size_t> got = source_.read(position_, bytes_);
  bytes_.resize(got ? std::min(*got, wanted) : 0);
  if (!got) return fail(got.error());
  if (bytes_.size() < count) return ends_early(source_);
  return {};
}

Result<std::string_view> Window::take(std::uint64_t count) {
  const std::uint64_t start = position_ - bytes_start_;
  if (start > bytes_.size() || count > bytes_.size() - start) {
    YOKE_CHECK(check(count));
    YOKE_CHECK(fill(static_cast<std::size_t>(count)));
  }
  const std::string_view taken(bytes_.data() + (position_ - bytes_start_),
                               static_cast<std::size_t>(count));
  position_ += count;
  return taken;
}

Result<void> Window::skip(std::uint64_t count) {
  YOKE_CHECK(check(count));
  position_ += count;
  return {};
}

}  // namespace yoke::gguf
