#include "cli/pull_view.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_text.h"
#include "base/units.h"

namespace yoke::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds kRateOver{10};
constexpr std::chrono::seconds kLeastForRate{1};
constexpr std::chrono::seconds kLinesEvery{10};
constexpr std::chrono::milliseconds kBarEvery{200};
constexpr std::chrono::seconds kJsonEvery{1};
constexpr int kUsualWidth = 80;
constexpr std::size_t kLeastBar = 5;
constexpr std::size_t kMostBar = 40;
constexpr double kMostSeconds = 1e9;

double share_of(const models::PullProgress& progress) {
  if (progress.total == 0) return 0;
  const double share = static_cast<double>(progress.done) / static_cast<double>(progress.total);
  return std::min(share, 1.0);
}

// The last part of what is got: "model.gguf".
std::string_view short_name(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? name : name.substr(slash + 1);
}

}  // namespace

void RateMeter::add(Clock::time_point now, std::uint64_t done) {
  // Fewer than before: a file began anew.
  if (!samples_.empty() && done < samples_.back().done) samples_.clear();
  samples_.push_back({now, done});
  while (samples_.size() > 2 && now - samples_.front().time > kRateOver) samples_.pop_front();
}

std::optional<double> RateMeter::bytes_per_second() const {
  if (samples_.empty()) return std::nullopt;
  const auto time = samples_.back().time - samples_.front().time;
  if (time < kLeastForRate) return std::nullopt;
  const std::chrono::duration<double> seconds = time;
  return static_cast<double>(samples_.back().done - samples_.front().done) / seconds.count();
}

std::optional<std::chrono::seconds> PullView::left(const models::PullProgress& progress) const {
  const auto rate = rate_.bytes_per_second();
  if (!rate || *rate < 1 || progress.total <= progress.done) return std::nullopt;
  const double seconds = static_cast<double>(progress.total - progress.done) / *rate;
  return std::chrono::seconds(std::llround(std::min(seconds, kMostSeconds)));
}

std::string PullView::numbers(const models::PullProgress& progress) const {
  std::string text = format_bytes(progress.done);
  if (progress.total > 0) text += " of " + format_bytes(progress.total);
  if (progress.checking) return text + ", checking";
  if (const auto rate = rate_.bytes_per_second()) {
    text += fmt::format(", {}/s", format_bytes(static_cast<std::uint64_t>(*rate)));
  }
  if (const auto time = left(progress)) text += fmt::format(", {} left", format_duration(*time));
  return text;
}

std::string PullView::bar(const models::PullProgress& progress) const {
  const std::string end = fmt::format(" {:3.0f} % {}", share_of(progress) * 100, numbers(progress));
  std::string name = printable(short_name(progress.file));
  const auto width = static_cast<std::size_t>(width_ > 0 ? width_ : kUsualWidth) - 1;
  const std::size_t room = width > display_width(end) ? width - display_width(end) : 0;
  if (display_width(name) + 3 + kLeastBar > room) name.clear();
  const std::size_t rest = room > display_width(name) + 3 ? room - display_width(name) - 3 : 0;
  std::string text = name;
  if (rest >= kLeastBar) {
    const std::size_t size = std::min(rest, kMostBar);
    const auto full = static_cast<std::size_t>(share_of(progress) * static_cast<double>(size));
    text += (name.empty() ? "[" : " [") + std::string(full, '=') + std::string(size - full, ' ');
    text += ']';
  }
  return "\r" + text + end.substr(0, width) + "\x1b[K";
}

std::string PullView::line(const models::PullProgress& progress) const {
  return fmt::format("{}: {:.0f} %, {}\n", printable(short_name(progress.file)),
                     share_of(progress) * 100, numbers(progress));
}

std::string PullView::json(const models::PullProgress& progress) const {
  json::object event{{"event", "progress"},
                     {"file", progress.file},
                     {"done", progress.done},
                     {"total", progress.total},
                     {"checking", progress.checking}};
  if (const auto rate = rate_.bytes_per_second()) {
    event["bytes_per_second"] = static_cast<std::uint64_t>(*rate);
  }
  if (const auto time = left(progress)) event["seconds_left"] = time->count();
  return json_text(event) + "\n";
}

std::string PullView::progress(const models::PullProgress& progress, Clock::time_point now) {
  if (!progress.checking) rate_.add(now, progress.done);
  const auto every = style_ == Style::kBar     ? kBarEvery
                     : style_ == Style::kLines ? std::chrono::milliseconds(kLinesEvery)
                                               : std::chrono::milliseconds(kJsonEvery);
  const bool first = !shown_ || std::exchange(checking_, progress.checking) != progress.checking;
  const bool last = progress.done == progress.total && !progress.checking;
  if (!first && !last && now - *shown_ < every) return {};
  shown_ = now;
  switch (style_) {
    case Style::kBar:
      has_bar_ = true;
      return bar(progress);
    case Style::kLines:
      return line(progress);
    case Style::kJson:
      return json(progress);
  }
  return {};
}

std::string PullView::note(const std::string& text) {
  if (style_ != Style::kJson) return end() + printable(text) + "\n";
  return json_text(json::object{{"event", "note"}, {"text", text}}) + "\n";
}

std::string PullView::end() { return std::exchange(has_bar_, false) ? "\r\x1b[K" : ""; }

}  // namespace yoke::cli
