#include "models/http_source.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "models/fetch.h"
#include "models/pull.h"

namespace yoke::models {
namespace {

constexpr std::size_t kLongestStep = 4 << 20;
// Of a server that has no ranges, all ahead of what is wanted has to be read, too.
constexpr std::uint64_t kMostWithoutRanges = std::uint64_t{64} << 20;

}  // namespace

Result<std::size_t> HttpSource::read(std::uint64_t offset, std::span<char> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::uint64_t at = offset + done;
    if (size_ && at >= *size_) break;
    if (at < start_ || at - start_ >= bytes_.size()) YOKE_CHECK(fill(at, into.size() - done));
    if (at < start_ || at - start_ >= bytes_.size()) break;  // It ends here.
    const auto from = static_cast<std::size_t>(at - start_);
    const std::size_t count = std::min(into.size() - done, bytes_.size() - from);
    std::copy_n(bytes_.data() + from, count, into.data() + done);
    done += count;
  }
  return done;
}

Result<Fetched> HttpSource::ask(const FetchOptions& options) {
  // An address that a redirect led to can expire: then it is asked for again.
  if (!url_.empty()) {
    FetchOptions direct = options;
    direct.subject.url = url_;
    if (!same_origin(url_, subject_.url)) direct.bearer.clear();
    Result<Fetched> answer = fetch(client_, direct);
    if (answer || answer.error().code == kPullCancelled) return answer;
    url_.clear();
  }
  return fetch(client_, options);
}

Result<void> HttpSource::fill(std::uint64_t offset, std::size_t count) {
  const std::size_t wanted = std::max(count, step_);
  step_ = std::min(step_ * 4, kLongestStep);
  FetchOptions options;
  options.subject = subject_;
  options.bearer = bearer_;
  options.range = ByteRange{offset, wanted};
  options.most_bytes = wanted;
  options.partly = true;
  options.cancel = cancel_;
  YOKE_TRY(Fetched answer, ask(options));
  const HttpHead& head = answer.head;
  if (head.status == 416) {
    size_ = head.whole.value_or(offset);
    return {};
  }
  if (head.status == 206 && head.range && head.range->first == offset) {
    size_ = head.whole;
    url_ = std::move(answer.last_url);
    keep(offset, std::move(answer.body));
    return {};
  }
  if (offset == 0) {
    size_ = head.length;
    keep(0, std::move(answer.body));
    return {};
  }
  return fill_from_front(offset + wanted);
}

Result<void> HttpSource::fill_from_front(std::uint64_t end) {
  if (end > kMostWithoutRanges) {
    return fail(
        kDownloadFailed,
        fmt::format("The server of {} does not send parts of files, and the header is long.",
                    subject_.name),
        "Get the model with `yoke pull` first.");
  }
  FetchOptions options;
  options.subject = subject_;
  options.bearer = bearer_;
  options.most_bytes = end;
  options.cancel = cancel_;
  YOKE_TRY(Fetched whole, fetch(client_, options));
  keep(0, std::move(whole.body));
  return {};
}

void HttpSource::keep(std::uint64_t start, std::string bytes) {
  ++requests_;
  bytes_read_ += bytes.size();
  start_ = start;
  bytes_ = std::move(bytes);
}

}  // namespace yoke::models
