#include "models/retry.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "models/pull.h"

namespace yoke::models {
namespace {

constexpr std::string_view kAgain = "Run it again: it goes on where it was.";

Error refused(const HttpEnd& end, const Subject& subject) {
  if (subject.page.empty()) {
    return {kHubRefused,
            fmt::format("The server does not give {} to everybody (status {}).", subject.name,
                        end.head.status),
            "Look whether its address needs a password or has expired."};
  }
  if (end.head.error_code == "GatedRepo") {
    return {kHubRefused,
            fmt::format("{} is gated: its owner gives it to accounts that accept the conditions.",
                        subject.name),
            fmt::format("Accept them at {}, and set HF_TOKEN to a token of that account.",
                        subject.page)};
  }
  if (!subject.token) {
    return {
        kHubRefused,
        fmt::format("The hub gives {} only with a token, or there is no such model.", subject.name),
        "Correct the name, or set HF_TOKEN to a token that may read it."};
  }
  return {kHubRefused, fmt::format("The hub did not accept the token for {}.", subject.name),
          fmt::format("Look at {} whether its account may read it, or make a new token and set "
                      "HF_TOKEN to it.",
                      subject.page)};
}

Error not_found(const HttpEnd& end, const Subject& subject) {
  if (end.head.error_code == "RevisionNotFound") {
    return {kHubNotFound, fmt::format("{} has no such revision.", subject.name),
            "Name a branch, a tag or a commit of it behind '@'."};
  }
  return {kHubNotFound, fmt::format("There is no {}.", subject.name),
          subject.page.empty() ? "Correct the address."
                               : "Correct the name; the part behind the '/' counts too."};
}

}  // namespace

void Retry::progressed(Clock::time_point now) {
  since_ = now;
  granted_ = {};
  failures_ = 0;
}

std::optional<Retry::Clock::time_point> Retry::next(
    Clock::time_point now, std::optional<std::chrono::seconds> server_wait) {
  constexpr int kMostDoublings = 16;
  const auto pause = std::min(limits_.longest_pause,
                              limits_.first_pause * (1 << std::min(failures_, kMostDoublings)));
  ++failures_;
  // The hub's windows are five minutes long: what it asks for is no silence.
  if (server_wait) {
    if (*server_wait > limits_.longest_wait - granted_) return std::nullopt;
    granted_ += *server_wait;
  }
  const auto when = now + std::max<std::chrono::milliseconds>(
                              pause, server_wait.value_or(std::chrono::seconds(0)));
  if (when > since_ + limits_.without_progress + granted_) return std::nullopt;
  return when;
}

bool may_pass(const HttpEnd& end, const Subject& subject) {
  const int status = end.head.status;
  if (!end.remedy.empty()) return false;
  if (!end.problem.empty()) {
    return status == 0 || status / 100 == 2 || status / 100 == 5;
  }
  // An address that the hub signed for its file servers can expire on the way.
  if (status == 403) return !same_origin(subject.url, end.last_url);
  return status == 408 || status == 425 || status == 429 || status / 100 == 5;
}

Error error_of(const HttpEnd& end, const Subject& subject) {
  const int status = end.head.status;
  if (!end.remedy.empty()) {
    return {kDownloadFailed, fmt::format("{} could not be got: {}.", subject.name, end.problem),
            end.remedy};
  }
  if (status == 401 || status == 403) return refused(end, subject);
  if (status == 404 || status == 410) return not_found(end, subject);
  if (status == 429) {
    const std::string wait =
        end.head.retry_after ? fmt::format(" for {}", format_duration(*end.head.retry_after)) : "";
    return {kDownloadFailed,
            fmt::format("The server wants no more requests for {}{}.", subject.name, wait),
            subject.page.empty() || subject.token
                ? "Run it again then: it goes on where it was."
                : "Run it again then, or set HF_TOKEN: the hub lets accounts ask more often."};
  }
  const bool answered = end.problem.empty() && status / 100 != 2;
  const std::string why = answered ? fmt::format("the server answered with status {}", status)
                          : end.problem.empty() ? std::string("the answer was not as asked for")
                                                : end.problem;
  return {kDownloadFailed, fmt::format("{} could not be got: {}.", subject.name, why),
          std::string(kAgain)};
}

}  // namespace yoke::models
