#include "models/range_download.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "models/fetch.h"
#include "models/pull.h"

namespace yoke::models {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStep{100};
constexpr milliseconds kShowEvery{200};
constexpr std::chrono::seconds kSaveEvery{1};
constexpr std::uint64_t kLeastRange = std::uint64_t{1} << 20;
// Few requests for a large file, as hubs count them; and little to do again after a cut.
constexpr std::uint64_t kMostRange = std::uint64_t{256} << 20;
constexpr int kMostWholeTries = 5;

}  // namespace

Transfers::Transfers(HttpClient& client, PartFile& part, const Download& what,
                     const DownloadOptions& options)
    : client_(client),
      part_(part),
      what_(what),
      options_(options),
      connections_(static_cast<std::size_t>(std::clamp(options.connections, 1, kMostConnections))),
      retry_(options.retry, Clock::now()),
      saved_(Clock::now()),
      saved_bytes_(part.done().count()) {}

Transfers::~Transfers() { client_.stop_all(); }

std::optional<ByteRange> Transfers::next_range() const {
  ByteRanges taken = part_.done();
  for (const auto& [id, active] : active_) taken.add(active.range.first, active.range.count);
  std::optional<ByteRange> gap = taken.gap(0, *what_.bytes);
  if (!gap) return std::nullopt;
  // Smaller ones towards the end, so that all connections end together.
  const std::uint64_t fair = (*what_.bytes - taken.count()) / (2 * connections_);
  gap->count = std::min(gap->count, std::clamp(fair, kLeastRange, kMostRange));
  return gap;
}

bool Transfers::fits(const HttpHead& head, const Active& active) const {
  if (head.status != 206) return head.status / 100 != 2;
  return head.range == active.range && head.whole == what_.bytes &&
         (etag.empty() || head.etag.empty() || head.etag == etag);
}

bool Transfers::take(Active& active, std::string_view bytes) {
  if (bytes.size() > active.range.count - active.got) {
    active.wrong = true;
    return false;
  }
  const Result<void> written = part_.write(active.range.first + active.got, bytes);
  if (!written) {
    write_error_ = written.error();
    return false;
  }
  active.got += bytes.size();
  return true;
}

Result<void> Transfers::start_more() {
  if (Clock::now() < not_before_) return {};
  while (active_.size() < connections_) {
    const std::optional<ByteRange> range = next_range();
    if (!range) return {};
    // The callbacks find it by its number, which is known only when it has begun.
    const auto id = std::make_shared<std::size_t>(0);
    const auto status = std::make_shared<int>(0);
    HttpRequest request{what_.subject.url, what_.bearer, range, {}, {}};
    request.on_head = [this, id, status](const HttpHead& head) {
      Active& active = active_.at(*id);
      *status = head.status;
      active.wrong = !fits(head, active);
      return !active.wrong;
    };
    request.on_body = [this, id, status](std::string_view bytes) {
      return *status == 206 && take(active_.at(*id), bytes);
    };
    YOKE_TRY(*id, client_.start(std::move(request)));
    active_.emplace(*id, Active{*range});
  }
  return {};
}

Result<void> Transfers::failed(const HttpEnd& end) {
  if (!may_pass(end, what_.subject)) return fail(error_of(end, what_.subject));
  const auto now = Clock::now();
  const auto when = retry_.next(now, end.head.retry_after);
  if (!when) return fail(error_of(end, what_.subject));
  // Other connections may have failed with it, and asked for another time.
  not_before_ = std::max(not_before_, *when);
  const bool asked = end.head.retry_after.has_value();
  if (asked) connections_ = std::max<std::size_t>(1, connections_ / 2);
  if (asked && options_.on_note) {
    options_.on_note(
        wait_note(end, what_.subject, std::chrono::ceil<milliseconds>(not_before_ - now)));
  }
  return {};
}

Result<void> Transfers::ended(const HttpEnd& end) {
  const auto found = active_.find(end.id);
  if (found == active_.end()) return {};
  const Active active = found->second;
  active_.erase(found);
  if (write_error_) return fail(*write_error_);
  if (active.got > 0) retry_.progressed(Clock::now());
  if (active.got == active.range.count) return {};
  if (active.wrong || end.head.status == 416) {
    remote_changed_ = true;
    return fail(kDownloadFailed,
                fmt::format("{} changes while it is being got.", what_.subject.name),
                "Run it again later.");
  }
  if (end.head.status == 206) {  // Cut.
    HttpEnd cut = end;
    if (cut.problem.empty()) cut.problem = "the connection was cut";
    return failed(cut);
  }
  return failed(end);
}

// What goes on beside the transfers.
Result<void> Transfers::tick() {
  if (is_cancelled(options_.cancel)) return fail(cancelled());
  const auto now = Clock::now();
  const std::uint64_t done = part_.done().count();
  if (options_.on_progress && now - shown_ >= kShowEvery) {
    shown_ = now;
    options_.on_progress(done, what_.bytes.value_or(0), false);
  }
  if (now - saved_ < kSaveEvery || done == saved_bytes_) return {};
  YOKE_CHECK(part_.save());
  saved_ = Clock::now();
  saved_bytes_ = done;
  return {};
}

Result<void> Transfers::run_ranges() {
  while (part_.done().count() < *what_.bytes) {
    YOKE_CHECK(start_more());
    for (const HttpEnd& end : client_.wait(kStep)) YOKE_CHECK(ended(end));
    YOKE_CHECK(tick());
  }
  return {};
}

Result<void> Transfers::by_ranges() {
  const Result<void> result = run_ranges();
  client_.stop_all();
  active_.clear();
  // Also after a failure: the next try goes on from here. The first error is the one to tell.
  const Result<void> saved = part_.save();
  return result ? saved : result;
}

// One try.
Result<void> Transfers::run_whole() {
  YOKE_CHECK(part_.restart());
  std::uint64_t got = 0;
  int status = 0;
  HttpRequest request{what_.subject.url, what_.bearer, std::nullopt, {}, {}};
  request.on_head = [&](const HttpHead& head) {
    status = head.status;
    return true;
  };
  request.on_body = [&](std::string_view bytes) {
    if (status != 200) return false;
    const Result<void> written = part_.write(got, bytes);
    if (!written) write_error_ = written.error();
    got += bytes.size();
    return written.has_value();
  };
  YOKE_TRY(const std::size_t id, client_.start(std::move(request)));
  for (;;) {
    for (HttpEnd& end : client_.wait(kStep)) {
      if (end.id != id) continue;
      if (write_error_) return fail(*write_error_);
      const bool complete = end.ok() && (!what_.bytes || got == *what_.bytes);
      if (complete) return {};
      if (end.ok()) end.problem = "the answer has another size than the server said";
      if (got > 0) retry_.progressed(Clock::now());
      return failed(end);
    }
    if (Result<void> ticked = tick(); !ticked) {
      client_.stop(id);
      return ticked;
    }
  }
}

Result<void> Transfers::at_once() {
  for (int tries = 1;; ++tries) {
    YOKE_CHECK(run_whole());
    const std::uint64_t got = part_.done().count();
    if (not_before_ == Clock::time_point{}) return {};
    if (tries == kMostWholeTries) {
      return fail(kDownloadFailed,
                  fmt::format("{} was cut {} times, the last time after {} bytes, and its server "
                              "can only begin from the front.",
                              what_.subject.name, tries, got),
                  "Run it again when the network is better.");
    }
    while (Clock::now() < not_before_) {
      YOKE_CHECK(tick());
      client_.wait(kStep);
    }
    not_before_ = {};
    retry_.progressed(Clock::now());
  }
}

}  // namespace yoke::models
