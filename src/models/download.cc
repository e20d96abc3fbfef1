#include "models/download.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <sys/stat.h>
#include <sys/time.h>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/units.h"
#include "models/fetch.h"
#include "models/part_file.h"
#include "models/pull.h"
#include "models/range_download.h"

namespace yoke::models {
namespace {

using Clock = Retry::Clock;

constexpr std::size_t kSha256Digits = 64;

// A weak one stands for the meaning, not for the bytes.
std::string strong_etag(const std::string& etag) {
  return etag.starts_with('"') && etag.size() > 2 ? etag : std::string();
}

// The hub's etag of a large file is its SHA-256, in quotes.
std::string sha256_of_etag(std::string_view etag) {
  if (etag.size() != kSha256Digits + 2 || etag.front() != '"') return {};
  const std::string_view digits = etag.substr(1, kSha256Digits);
  const bool hex = std::ranges::all_of(
      digits, [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; });
  return hex ? std::string(digits) : std::string();
}

std::string mark_of(const Checksum& checksum, const RemoteFile& remote) {
  switch (checksum.kind) {
    case Checksum::Kind::kSha256:
      return "sha256:" + checksum.hex;
    case Checksum::Kind::kGitBlob:
      return "git:" + checksum.hex;
    case Checksum::Kind::kNone:
      break;
  }
  return remote.etag.empty() ? std::string() : "etag:" + remote.etag;
}

Error damaged(const Download& what, std::string_view why) {
  return {
      kDownloadDamaged,
      fmt::format("{} arrived damaged, and was removed: {}.", what.subject.name, why),
      "Run it again; if it happens again, the server or something on the way changes the file."};
}

void set_modified(int fd, std::int64_t seconds) {
  if (seconds < 0) return;
  const std::array<timespec, 2> times{{{0, UTIME_OMIT}, {static_cast<time_t>(seconds), 0}}};
  ::futimens(fd, times.data());
}

// Checks what came, and makes it the file.
Result<Downloaded> complete(PartFile& part, const Download& what, const Checksum& checksum,
                            std::int64_t modified, const DownloadOptions& options) {
  const std::uint64_t bytes = part.done().count();
  Clock::time_point shown{};
  const auto on_read = [&](std::uint64_t read) {
    constexpr std::chrono::milliseconds kShowEvery{200};
    if (const auto now = Clock::now(); options.on_progress && now - shown >= kShowEvery) {
      shown = now;
      options.on_progress(read, bytes, true);
    }
    return !is_cancelled(options.cancel);
  };
  auto hex = checksum_of(part.fd(), bytes, checksum.kind, on_read);
  if (!hex) return fail(hex.error().code == kCancelled ? cancelled() : std::move(hex.error()));
  if (*hex != checksum.hex) {
    PartFile::remove(what.path);
    return fail(damaged(what, "its checksum is not the one that the hub names"));
  }
  set_modified(part.fd(), modified);
  YOKE_CHECK(part.finish());
  return Downloaded{bytes,
                    checksum.kind == Checksum::Kind::kSha256 ? std::move(*hex) : std::string()};
}

// Once, with what the server says now; `changed`: it may say something else by now.
Result<Downloaded> try_download(HttpClient& client, Download what, const DownloadOptions& options,
                                bool& changed) {
  YOKE_TRY(const RemoteFile remote, look_at(client, what, options));
  if (what.bytes && remote.bytes && *what.bytes != *remote.bytes) {
    return fail(kDownloadFailed,
                fmt::format("{} has {} bytes at the server, and {} were expected.",
                            what.subject.name, *remote.bytes, *what.bytes),
                "Run it again; the server may still be taking over a new version.");
  }
  if (what.checksum.kind == Checksum::Kind::kNone && !remote.sha256.empty()) {
    what.checksum = {Checksum::Kind::kSha256, remote.sha256};
  }
  if (!what.bytes) what.bytes = remote.bytes;
  const Identity identity{what.bytes.value_or(0), mark_of(what.checksum, remote)};
  YOKE_TRY(PartFile part, PartFile::open(what.path, identity));
  if (options.on_note && part.changed()) {
    options.on_note(fmt::format("{} changed at its source: starting anew.", what.subject.name));
  }
  const bool by_ranges = remote.ranges && what.bytes && !identity.mark.empty();
  if (options.on_note && part.resumed() && by_ranges) {
    options.on_note(fmt::format("{}: going on, {} of {} are there.", what.subject.name,
                                format_bytes(part.done().count()), format_bytes(identity.bytes)));
  }
  Transfers transfers(client, part, what, options);
  transfers.etag = what.checksum.kind == Checksum::Kind::kNone ? remote.etag : std::string();
  const Result<void> transferred = by_ranges ? transfers.by_ranges() : transfers.at_once();
  changed = transfers.remote_changed();
  if (!transferred) return fail(transferred.error());
  return complete(part, what, what.checksum, remote.modified, options);
}

}  // namespace

Result<RemoteFile> look_at(HttpClient& client, const Download& what,
                           const DownloadOptions& options) {
  FetchOptions fetch_options;
  fetch_options.subject = what.subject;
  fetch_options.bearer = what.bearer;
  // One byte: some servers that sign addresses do so for GET only.
  fetch_options.range = ByteRange{0, 1};
  fetch_options.most_bytes = 1;
  fetch_options.cancel = options.cancel;
  fetch_options.on_note = options.on_note;
  fetch_options.retry = options.retry;
  YOKE_TRY(const Fetched answer, fetch(client, fetch_options));
  const HttpHead& head = answer.head;
  RemoteFile remote;
  remote.ranges = head.status == 206 && head.whole.has_value();
  // Of an empty file there is no first byte.
  remote.bytes = head.status == 200 ? head.length : head.whole;
  remote.etag = strong_etag(head.etag);
  remote.sha256 = sha256_of_etag(head.linked_etag);
  remote.modified = head.modified;
  return remote;
}

Result<Downloaded> download(HttpClient& client, const Download& what,
                            const DownloadOptions& options) {
  constexpr int kMostTries = 3;
  for (int tries = 1;; ++tries) {
    bool changed = false;
    Result<Downloaded> got = try_download(client, what, options, changed);
    if (got || !changed || tries == kMostTries) return got;
  }
}

}  // namespace yoke::models
