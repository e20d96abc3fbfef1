#include "models/pull.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <numeric>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/unique_fd.h"
#include "base/units.h"
#include "models/entry.h"
#include "models/fetch.h"
#include "models/http_source.h"
#include "models/import.h"
#include "models/part_file.h"
#include "models/pull_plan.h"
#include "models/removal.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

using Entries = std::vector<CatalogueEntry>;

// One pull, from the plan to the catalogue.
class Pull {
 public:
  Pull(HttpClient& client, Catalogue& catalogue, const PullOptions& options, PullPlan plan)
      : client_(client), catalogue_(catalogue), options_(options), plan_(std::move(plan)) {}

  Result<CatalogueEntry> run(const std::string& source);

 private:
  Result<std::string> choose_name() const;
  Result<void> check_header();
  Result<void> find_what_is_there();
  Result<bool> is_there(const PlannedFile& file) const;
  bool is_known(const Download& download) const;
  Result<bool> has_checksum(const Download& download) const;
  Result<void> check_space() const;
  Result<void> begin(const std::string& source);
  Result<void> get_all();
  Result<CatalogueEntry> enter(const std::string& source, const std::string& name);
  void remove_stale(const CatalogueEntry& fresh);
  void show(std::uint64_t done, const Download& at, bool checking) const;

  HttpClient& client_;
  Catalogue& catalogue_;
  const PullOptions& options_;
  PullPlan plan_;
  Entries entries_;
  std::vector<bool> there_;  // By file.
  std::vector<std::string> sha256_;
  std::uint64_t total_ = 0;
};

std::optional<struct stat> status_of(const fs::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return status;
}

void Pull::show(std::uint64_t done, const Download& at, bool checking) const {
  if (options_.on_progress) options_.on_progress({done, total_, at.subject.name, checking});
}

Result<std::string> Pull::choose_name() const {
  const auto named = [&](const std::string& name) {
    return std::ranges::find(entries_, name, &CatalogueEntry::name);
  };
  if (!options_.name.empty()) {
    const auto taken = named(options_.name);
    if (taken == entries_.end() || taken->path == plan_.path) return options_.name;
    return fail(kInvalidArgument,
                fmt::format("Another model is called '{}': {}.", options_.name, taken->source),
                "Choose another name, or remove that one with `yoke rm`.");
  }
  const auto same = std::ranges::find(entries_, plan_.path, &CatalogueEntry::path);
  if (same != entries_.end()) return same->name;
  std::string own = entry_name(plan_.name);
  if (named(own) == entries_.end()) return own;
  const std::string with_owner = entry_name(plan_.owner + "/" + plan_.name);
  std::string free = with_owner;
  for (int number = 2; named(free) != entries_.end(); ++number) {
    free = fmt::format("{}-{}", with_owner, number);
  }
  return free;
}

// A file of another kind is seen by its first bytes, before the rest of it costs time and space.
Result<void> Pull::check_header() {
  if (plan_.format != "gguf" || there_.front()) return {};
  const Download& first = plan_.files.front().download;
  HttpSource source(client_, first.subject, first.bearer, options_.cancel);
  Result<gguf::Header> header = gguf::read_header(source);
  if (!header) return fail(std::move(header.error()));
  return {};
}

bool Pull::is_known(const Download& download) const {
  return std::ranges::any_of(entries_, [&](const CatalogueEntry& entry) {
    return std::ranges::any_of(entry.files, [&](const ModelFile& file) {
      return file.path == download.path && file.bytes == download.bytes && !file.linked &&
             file.sha256 == download.checksum.hex;
    });
  });
}

Result<bool> Pull::has_checksum(const Download& download) const {
  const UniqueFd fd(::open(download.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return fail(kIo,
                fmt::format("{} can't be read: {}.", download.path.string(), std::strerror(errno)));
  }
  const auto on_read = [&](std::uint64_t read) {
    if (read % (std::uint64_t{64} << 20) == 0) show(read, download, true);
    return !is_cancelled(options_.cancel);
  };
  auto hex = checksum_of(fd.get(), *download.bytes, download.checksum.kind, on_read);
  if (hex) return *hex == download.checksum.hex;
  return fail(hex.error().code == kCancelled ? cancelled() : std::move(hex.error()));
}

Result<bool> Pull::is_there(const PlannedFile& file) const {
  const Download& download = file.download;
  const auto status = status_of(download.path);
  if (!status || !download.bytes) return false;
  if (static_cast<std::uint64_t>(status->st_size) != *download.bytes) return false;
  if (download.checksum.kind == Checksum::Kind::kNone) {
    // A download gets the time that its source says.
    return file.modified < 0 || status->st_mtim.tv_sec == file.modified;
  }
  if (download.checksum.kind == Checksum::Kind::kSha256 && is_known(download)) return true;
  return has_checksum(download);
}

Result<void> Pull::find_what_is_there() {
  for (const PlannedFile& file : plan_.files) total_ += file.download.bytes.value_or(0);
  for (const PlannedFile& file : plan_.files) {
    YOKE_TRY(const bool there, is_there(file));
    // The last pull may have been killed when only this was left to do.
    if (there) PartFile::remove(file.download.path);
    there_.push_back(there);
    const bool sha256 = file.download.checksum.kind == Checksum::Kind::kSha256;
    sha256_.push_back(sha256 ? file.download.checksum.hex : "");
  }
  return {};
}

Result<void> Pull::check_space() const {
  std::uint64_t needed = 0;
  for (std::size_t i = 0; i < plan_.files.size(); ++i) {
    const Download& download = plan_.files[i].download;
    if (there_[i] || !download.bytes) continue;
    const std::uint64_t taken = PartFile::space_taken(download.path);
    needed += *download.bytes - std::min(*download.bytes, taken);
  }
  struct statvfs disk{};
  if (::statvfs(options_.model_dir.c_str(), &disk) != 0) return {};
  const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
  if (needed <= free) return {};
  return fail(kDiskFull,
              fmt::format("{} has {} free, and {} are still to be got: {} are missing.",
                          options_.model_dir.string(), format_bytes(free), format_bytes(needed),
                          format_bytes(needed - free)),
              "Make room, or name a directory on another disk with --models.");
}

// Whatever ends it, `yoke list` and `yoke rm` know of it.
Result<void> Pull::begin(const std::string& source) {
  if (std::ranges::find(there_, false) == there_.end()) return {};
  BegunPull begun{.source = source, .files = {}};
  for (const PlannedFile& file : plan_.files) {
    begun.files.push_back({file.download.path, file.download.bytes.value_or(0)});
  }
  return catalogue_.begin_pull(begun);
}

Result<void> Pull::get_all() {
  std::uint64_t before = 0;
  for (std::size_t i = 0; i < plan_.files.size(); ++i) {
    const Download& download = plan_.files[i].download;
    if (!there_[i]) {
      std::error_code error;
      fs::create_directories(download.path.parent_path(), error);
      if (error) return fail(write_error(download.path.parent_path(), error.value()));
      DownloadOptions how;
      how.connections = options_.connections;
      how.cancel = options_.cancel;
      how.on_note = options_.on_note;
      how.on_progress = [&](std::uint64_t done, std::uint64_t, bool checking) {
        // What is checked has come already.
        show(before + (checking ? download.bytes.value_or(0) : done), download, checking);
      };
      YOKE_TRY(Downloaded got, yoke::models::download(client_, download, how));
      if (!got.sha256.empty()) sha256_[i] = std::move(got.sha256);
      if (!download.bytes) total_ += got.bytes;
    }
    const auto status = status_of(download.path);
    before += status ? static_cast<std::uint64_t>(status->st_size) : 0;
    show(before, download, false);
  }
  return {};
}

// What a new version has no more.
void Pull::remove_stale(const CatalogueEntry& fresh) {
  const auto old = std::ranges::find(entries_, fresh.path, &CatalogueEntry::path);
  const Result<Entries> now = catalogue_.entries();
  if (old == entries_.end() || !now) return;
  CatalogueEntry stale = *old;
  std::erase_if(stale.files, [&](const ModelFile& file) {
    return std::ranges::find(fresh.files, file.path, &ModelFile::path) != fresh.files.end();
  });
  stale.name.clear();  // It is none of them any more.
  for (const fs::path& path : removal_of(stale, *now, options_.model_dir).files) {
    std::error_code error;
    fs::remove(path, error);
  }
}

Result<CatalogueEntry> Pull::enter(const std::string& source, const std::string& name) {
  YOKE_TRY(CatalogueEntry entry,
           plan_.format == "gguf" ? gguf_entry(plan_.path) : huggingface_entry(plan_.path));
  entry.name = name;
  entry.source = source;
  entry.revision = plan_.revision;
  entry.added = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  entry.files.clear();
  for (std::size_t i = 0; i < plan_.files.size(); ++i) {
    const PlannedFile& file = plan_.files[i];
    const auto status = status_of(file.download.path);
    const std::uint64_t bytes = status ? static_cast<std::uint64_t>(status->st_size) : 0;
    entry.files.push_back({file.download.path, bytes, sha256_[i], file.role, false});
  }
  YOKE_CHECK(catalogue_.put(entry));
  // It may have had another name.
  for (const CatalogueEntry& other : entries_) {
    if (other.path != entry.path || other.name == entry.name) continue;
    YOKE_CHECK(catalogue_.remove(other.name));
  }
  remove_stale(entry);
  return entry;
}

Result<CatalogueEntry> Pull::run(const std::string& source) {
  YOKE_TRY(entries_, catalogue_.entries());
  YOKE_TRY(const std::string name, choose_name());
  YOKE_CHECK(find_what_is_there());
  YOKE_CHECK(check_header());
  YOKE_CHECK(check_space());
  YOKE_CHECK(begin(source));
  YOKE_CHECK(get_all());
  return enter(source, name);
}

Result<CatalogueEntry> link_file(Catalogue& catalogue, const FileReference& reference,
                                 const PullOptions& options) {
  std::error_code error;
  const fs::path path = fs::absolute(reference.path, error).lexically_normal();
  const bool directory = fs::is_directory(path, error);
  if (directory && !is_huggingface_model(path)) {
    return fail(kInvalidArgument,
                fmt::format("{} is a directory, and not that of one model.", path.string()),
                fmt::format("`yoke import {}` takes all models in it.", path.string()));
  }
  YOKE_TRY(CatalogueEntry entry, directory ? huggingface_entry(path) : gguf_entry(path));
  entry.source = to_text(FileReference{path});
  entry.added = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  for (ModelFile& file : entry.files) file.linked = true;
  if (options.name.empty()) {
    entry.name = entry_name(directory ? path.filename().string() : model_stem(path));
    YOKE_TRY(std::vector<Linked> linked, link(catalogue, {entry}));
    return std::move(linked.front().entry);
  }
  entry.name = options.name;
  YOKE_TRY(const Entries entries, catalogue.entries());
  const auto taken = std::ranges::find(entries, entry.name, &CatalogueEntry::name);
  if (taken != entries.end() && taken->path != entry.path) {
    return fail(kInvalidArgument,
                fmt::format("Another model is called '{}': {}.", entry.name, taken->source),
                "Choose another name, or remove that one with `yoke rm`.");
  }
  YOKE_CHECK(catalogue.put(entry));
  return entry;
}

}  // namespace

Result<CatalogueEntry> pull(const ModelReference& reference, const PullOptions& given) {
  PullOptions options = given;
  std::error_code error;
  options.model_dir = fs::absolute(given.model_dir, error).lexically_normal();
  if (error) return fail(write_error(given.model_dir, error.value()));
  if (!options.name.empty() && !is_entry_name(options.name)) {
    return fail(kInvalidArgument, fmt::format("'{}' is no name for a model.", options.name),
                "It has letters, digits and . _ : / + @ -, and begins with a letter or a digit.");
  }
  YOKE_TRY(const auto catalogue, Catalogue::open(options.model_dir, Catalogue::Use::kChange));
  if (options.on_note) {
    for (const std::string& note : catalogue->notes()) options.on_note(note);
  }
  if (const auto* const file = std::get_if<FileReference>(&reference)) {
    return link_file(*catalogue, *file, options);
  }
  HttpClient client;
  const auto* const hub = std::get_if<HubReference>(&reference);
  YOKE_TRY(PullPlan plan, hub != nullptr
                              ? plan_pull(client, *hub, options)
                              : plan_pull(client, std::get<UrlReference>(reference), options));
  return Pull(client, *catalogue, options, std::move(plan)).run(to_text(reference));
}

}  // namespace yoke::models
