#include "models/fetch.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/units.h"
#include "models/pull.h"

namespace yoke::models {
namespace {

using Clock = Retry::Clock;
using std::chrono::milliseconds;

constexpr milliseconds kStep{100};  // How soon a cancellation is noticed.

// Once, without retries.
Result<std::pair<HttpEnd, std::string>> ask(HttpClient& client, const FetchOptions& options) {
  std::string body;
  const auto on_body = [&](std::string_view bytes) {
    const std::size_t room = options.most_bytes - body.size();
    body.append(bytes.substr(0, room));
    return bytes.size() <= room;  // At its end the connection can be used again.
  };
  YOKE_TRY(const std::size_t id,
           client.start({options.subject.url, options.bearer, options.range, {}, on_body}));
  for (;;) {
    if (is_cancelled(options.cancel)) {
      client.stop(id);
      return fail(cancelled());
    }
    for (HttpEnd& end : client.wait(kStep)) {
      if (end.id == id) return std::pair(std::move(end), std::move(body));
    }
  }
}

bool is_answer(const HttpEnd& end, const std::string& body, const FetchOptions& options) {
  if (options.range && end.head.status == 416) return true;
  if (options.partly && end.head.status == 206 && !body.empty()) return true;
  return end.problem.empty() && end.head.status / 100 == 2;
}

Result<void> sleep_until(HttpClient& client, Clock::time_point when,
                         const std::atomic<bool>* cancel) {
  while (Clock::now() < when) {
    if (is_cancelled(cancel)) return fail(cancelled());
    const auto left = std::chrono::ceil<milliseconds>(when - Clock::now());
    client.wait(std::clamp(left, milliseconds(0), kStep));
  }
  return {};
}

}  // namespace

Error cancelled() {
  return {kPullCancelled, "Interrupted.", "Run it again to go on where it was."};
}

std::string wait_note(const HttpEnd& end, const Subject& subject, milliseconds wait) {
  const std::string why = !end.problem.empty() ? end.problem
                          : end.stopped        ? std::string("the answer was not as asked for")
                                               : fmt::format("status {}", end.head.status);
  return fmt::format("{}: {}; trying again in {}.", subject.name, why, format_duration(wait));
}

Result<Fetched> fetch(HttpClient& client, const FetchOptions& options) {
  Retry retry(options.retry, Clock::now());
  for (;;) {
    YOKE_TRY(auto answer, ask(client, options));
    auto& [end, body] = answer;
    if (is_answer(end, body, options)) {
      return Fetched{std::move(end.head), std::move(end.last_url), std::move(body)};
    }
    if (!may_pass(end, options.subject)) return fail(error_of(end, options.subject));
    const auto now = Clock::now();
    const auto when = retry.next(now, end.head.retry_after);
    if (!when) return fail(error_of(end, options.subject));
    if (options.on_note) {
      options.on_note(
          wait_note(end, options.subject, std::chrono::ceil<milliseconds>(*when - now)));
    }
    YOKE_CHECK(sleep_until(client, *when, options.cancel));
  }
}

}  // namespace yoke::models
