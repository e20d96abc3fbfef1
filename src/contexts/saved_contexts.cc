#include "contexts/saved_contexts.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <mutex>
#include <set>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "base/log.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "contexts/sidecar.h"
#include "contexts/slot_file.h"

namespace yoke::contexts {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::system_clock;

constexpr std::uint64_t kMostLeftFree = std::uint64_t{1} << 30;
constexpr std::uint64_t kPartLeftFree = 20;  // 1/20 of a small disk.
constexpr std::size_t kMaxSidecar = 64u << 10;
constexpr std::size_t kMaxAbandoned = 100;

struct Entry {
  SavedContext context;
  ContextKey key;
  std::string model;
  std::int64_t modified_ns = 0;
  int users = 0;
  bool doomed = false;  // Goes with its last user.
};

Error io_error(std::string_view what, const fs::path& path, int error) {
  return {kIo, fmt::format("{} {}: {}.", what, path.string(), std::strerror(error))};
}

Result<void> write_synced(const fs::path& path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                           S_IRUSR | S_IWUSR));
  if (!fd) return fail(io_error("Can't write", path, errno));
  while (!text.empty()) {
    const ssize_t written = ::write(fd.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(io_error("Can't write", path, errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fsync(fd.get()) != 0) return fail(io_error("Can't write", path, errno));
  return {};
}

Result<void> sync_file(const fs::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd || ::fsync(fd.get()) != 0) return fail(io_error("Can't write", path, errno));
  return {};
}

std::string read_small(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxSidecar, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return text;
}

// The time of its last use; the kernel's own would be the same for those written together.
void set_last_use(const fs::path& sidecar, Clock::time_point time) {
  const auto since_epoch = time.time_since_epoch();
  const auto whole = std::chrono::floor<std::chrono::seconds>(since_epoch);
  const timespec use{whole.count(), std::chrono::nanoseconds(since_epoch - whole).count()};
  const std::array times{use, use};
  ::utimensat(AT_FDCWD, sidecar.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
}

Clock::time_point last_use(const fs::path& sidecar) {
  struct stat status{};
  if (::lstat(sidecar.c_str(), &status) != 0) return {};
  return Clock::time_point(std::chrono::duration_cast<Clock::duration>(
      std::chrono::seconds(status.st_mtim.tv_sec) +
      std::chrono::nanoseconds(status.st_mtim.tv_nsec)));
}

// Whether a context with these tokens is of next to no use beside the newer one.
bool is_superseded(const std::vector<std::int32_t>& old, const std::vector<std::int32_t>& newer) {
  return old.size() - common_beginning(old, newer) < kWorthSaving;
}

Entry entry_of(const std::string& file, SlotFile found, ContextKey key, std::string model) {
  Entry entry;
  entry.context.file = file;
  entry.context.bytes = found.bytes;
  entry.context.tokens = std::make_shared<const std::vector<std::int32_t>>(std::move(found.tokens));
  entry.key = std::move(key);
  entry.model = std::move(model);
  entry.modified_ns = found.modified_ns;
  return entry;
}

}  // namespace

struct SavedContexts::Impl {
  fs::path directory;
  std::uint64_t max_bytes = 0;
  UniqueFd lock;  // On the directory, for as long as it is open.

  mutable std::mutex mutex;
  std::vector<Entry> entries;
  std::set<std::string> abandoned;  // An engine may still begin to write them.
  std::deque<std::string> to_sync;
  std::condition_variable changed;
  bool ending = false;
  std::thread syncer;

  fs::path path(const std::string& file) const { return directory / file; }
  fs::path sidecar_path(const std::string& file) const {
    return directory / (file + std::string(kSidecarSuffix));
  }

  // What follows is called with the mutex held, or before there are threads.
  Entry* find(const std::string& file);
  std::uint64_t total() const;
  void unlink_files(const std::string& file) const;
  void remove(std::vector<Entry>::iterator entry);
  void remove_abandoned();
  // The oldest that nobody uses.
  std::vector<Entry>::iterator oldest();
  void shrink_to(std::uint64_t bytes);
  void remove_superseded(const Entry& newer);

  Result<void> load();
  Result<Entry> load_one(const std::string& file) const;

  void sync_loop();
  Result<void> make_durable(const std::string& file);
};

Entry* SavedContexts::Impl::find(const std::string& file) {
  const auto found = std::ranges::find_if(
      entries, [&](const Entry& entry) { return entry.context.file == file && !entry.doomed; });
  return found == entries.end() ? nullptr : &*found;
}

std::uint64_t SavedContexts::Impl::total() const {
  std::uint64_t sum = 0;
  for (const Entry& entry : entries) sum += entry.context.bytes;
  return sum;
}

// The sidecar first: without one a context counts for nothing.
void SavedContexts::Impl::unlink_files(const std::string& file) const {
  std::error_code ignored;
  fs::remove(sidecar_path(file), ignored);
  fs::remove(path(file), ignored);
}

void SavedContexts::Impl::remove(std::vector<Entry>::iterator entry) {
  if (entry->users > 0) {
    entry->doomed = true;
    return;
  }
  unlink_files(entry->context.file);
  entries.erase(entry);
}

void SavedContexts::Impl::remove_abandoned() {
  std::error_code ignored;
  std::erase_if(abandoned,
                [&](const std::string& file) { return fs::remove(path(file), ignored); });
}

std::vector<Entry>::iterator SavedContexts::Impl::oldest() {
  auto oldest = entries.end();
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    if (entry->users > 0) continue;
    if (oldest == entries.end() || entry->context.used < oldest->context.used) oldest = entry;
  }
  return oldest;
}

void SavedContexts::Impl::shrink_to(std::uint64_t bytes) {
  while (total() > bytes) {
    const auto entry = oldest();
    if (entry == entries.end()) return;
    remove(entry);
  }
}

void SavedContexts::Impl::remove_superseded(const Entry& newer) {
  for (std::size_t i = entries.size(); i-- > 0;) {
    const Entry& old = entries[i];
    if (old.key == newer.key && is_superseded(*old.context.tokens, *newer.context.tokens)) {
      remove(entries.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

Result<Entry> SavedContexts::Impl::load_one(const std::string& file) const {
  std::error_code error;
  if (!fs::is_regular_file(fs::symlink_status(sidecar_path(file), error))) {
    return fail(kIo, "Yoke or the machine ended before it was written as a whole.");
  }
  YOKE_TRY(Sidecar sidecar, parse_sidecar(read_small(sidecar_path(file))));
  YOKE_TRY(SlotFile found, read_slot_file(path(file)));
  if (found.bytes != sidecar.bytes || found.modified_ns != sidecar.modified_ns ||
      found.tokens.size() != sidecar.tokens) {
    return fail(kIo, "It is not what was saved.");
  }
  Entry entry = entry_of(file, std::move(found), ContextKey{std::move(sidecar.key)},
                         std::move(sidecar.model));
  entry.context.used = last_use(sidecar_path(file));
  return entry;
}

Result<void> SavedContexts::Impl::load() {
  std::set<std::string> contexts;
  std::vector<std::string> leftovers;
  std::error_code error;
  fs::directory_iterator files(directory, error);
  for (; !error && files != fs::directory_iterator(); files.increment(error)) {
    std::string name = files->path().filename().string();
    const auto kind = kind_of(name);
    if (kind == FileKind::kContext)
      contexts.insert(std::move(name));
    else if (kind)
      leftovers.push_back(std::move(name));
  }
  if (error) return fail(io_error("Can't read", directory, error.value()));
  for (const std::string& file : contexts) {
    if (auto entry = load_one(file)) {
      entries.push_back(*std::move(entry));
      continue;
    } else {
      log::info("The saved context {} is of no use and is removed: {}", path(file).string(),
                entry.error().message);
    }
    unlink_files(file);
  }
  for (const std::string& file : leftovers) {
    const std::string context = file.substr(0, file.size() - kSidecarSuffix.size());
    if (kind_of(file) == FileKind::kSidecar && find(context) != nullptr) continue;
    if (fs::remove(path(file), error)) log::debug("Removed {}, which is incomplete.", file);
  }
  shrink_to(max_bytes);
  return {};
}

void SavedContexts::Impl::sync_loop() {
  std::unique_lock held(mutex);
  for (;;) {
    changed.wait(held, [&] { return ending || !to_sync.empty(); });
    if (to_sync.empty()) return;
    const std::string file = std::move(to_sync.front());
    to_sync.pop_front();
    held.unlock();
    if (auto done = make_durable(file); !done) {
      log::warning("A saved context will be lost when Yoke ends. {}", done.error().message);
    }
    held.lock();
  }
}

Result<void> SavedContexts::Impl::make_durable(const std::string& file) {
  Sidecar sidecar;
  {
    const std::lock_guard held(mutex);
    const Entry* entry = find(file);
    if (entry == nullptr) return {};
    sidecar = {entry->key.text, entry->model, entry->context.bytes, entry->context.tokens->size(),
               entry->modified_ns};
  }
  auto synced = sync_file(path(file));
  const fs::path part = sidecar_path(file).string() + std::string(kPartSuffix);
  auto written = synced ? write_synced(part, sidecar_text(sidecar)) : std::move(synced);
  std::error_code error;
  {
    const std::lock_guard held(mutex);
    const Entry* entry = find(file);
    if (!written || entry == nullptr) {
      fs::remove(part, error);
      return entry == nullptr ? Result<void>{} : std::move(written);
    }
    set_last_use(part, entry->context.used);
    fs::rename(part, sidecar_path(file), error);
  }
  if (error) return fail(io_error("Can't rename", part, error.value()));
  ::fsync(lock.get());
  return {};
}

Result<std::unique_ptr<SavedContexts>> SavedContexts::open(const fs::path& directory,
                                                           std::uint64_t max_bytes) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return fail(io_error("Can't make", directory, error.value()));
  // What people wrote is in there.
  fs::permissions(directory, fs::perms::owner_all, error);
  auto impl = std::make_shared<Impl>();
  impl->directory = directory;
  impl->max_bytes = max_bytes;
  impl->lock = UniqueFd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!impl->lock) return fail(io_error("Can't open", directory, errno));
  if (::flock(impl->lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(kIo, fmt::format("Another process keeps its contexts in {}.", directory.string()),
                "Give each Yoke a state directory of its own (XDG_STATE_HOME).");
  }
  YOKE_CHECK(impl->load());
  impl->syncer = std::thread([state = impl.get()] { state->sync_loop(); });
  return std::unique_ptr<SavedContexts>(new SavedContexts(std::move(impl)));
}

SavedContexts::SavedContexts(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

SavedContexts::~SavedContexts() {
  {
    const std::lock_guard held(impl_->mutex);
    impl_->ending = true;
    impl_->remove_abandoned();
  }
  impl_->changed.notify_all();
  impl_->syncer.join();
}

const fs::path& SavedContexts::directory() const { return impl_->directory; }

std::vector<SavedContext> SavedContexts::of(const ContextKey& key) const {
  const std::lock_guard held(impl_->mutex);
  std::vector<SavedContext> found;
  for (const Entry& entry : impl_->entries) {
    if (entry.key == key && !entry.doomed) found.push_back(entry.context);
  }
  std::ranges::sort(found, std::ranges::greater{}, &SavedContext::used);
  return found;
}

std::size_t SavedContexts::others_of(std::string_view model, const ContextKey& key) const {
  const std::lock_guard held(impl_->mutex);
  return static_cast<std::size_t>(std::ranges::count_if(impl_->entries, [&](const Entry& entry) {
    return entry.model == model && entry.key != key;
  }));
}

Result<void> SavedContexts::make_room(std::uint64_t bytes) {
  const std::lock_guard held(impl_->mutex);
  if (bytes > impl_->max_bytes) {
    return fail(kIo,
                fmt::format("It would have {}, and the saved contexts may have {} in all.",
                            format_memory(bytes), format_memory(impl_->max_bytes)),
                "Raise max_size in [contexts] to keep such long ones.");
  }
  struct statvfs disk{};
  if (::statvfs(impl_->directory.c_str(), &disk) != 0) {
    return fail(io_error("Can't look at", impl_->directory, errno));
  }
  const std::uint64_t size = disk.f_blocks * disk.f_frsize;
  const std::uint64_t free = disk.f_bavail * disk.f_frsize;
  const std::uint64_t wanted = bytes + std::min(kMostLeftFree, size / kPartLeftFree);
  const std::uint64_t total = impl_->total();
  if (free + total < wanted) {
    return fail(kIo,
                fmt::format("{} is nearly full: {} of {} are free.", impl_->directory.string(),
                            format_memory(free), format_memory(size)),
                "Make room on that disk.");
  }
  const std::uint64_t missing = wanted > free ? wanted - free : 0;
  impl_->shrink_to(std::min(impl_->max_bytes - bytes, total - std::min(missing, total)));
  return {};
}

std::string SavedContexts::begin(const ContextKey& key) {
  const std::lock_guard held(impl_->mutex);
  impl_->remove_abandoned();
  return new_context_name(key.text) + std::string(kPartSuffix);
}

Result<SavedContext> SavedContexts::keep(const ContextKey& key, const std::string& file,
                                         std::uint64_t bytes, std::string_view model) {
  auto found = read_slot_file(impl_->path(file));
  if (found && found->bytes != bytes) {
    found = fail(kIo, fmt::format("{} of {} bytes of it are there: the disk may be full.",
                                  found->bytes, bytes));
  }
  if (found && bytes > impl_->max_bytes) {
    found = fail(kIo,
                 fmt::format("It has {}, and the saved contexts may have {} in all.",
                             format_memory(bytes), format_memory(impl_->max_bytes)),
                 "Raise max_size in [contexts] to keep such long ones.");
  }
  if (!found) {
    discard(file);
    return fail(std::move(found.error()));
  }
  const std::string name = file.substr(0, file.size() - kPartSuffix.size());
  std::error_code error;
  fs::permissions(impl_->path(file), fs::perms::owner_read | fs::perms::owner_write, error);
  fs::rename(impl_->path(file), impl_->path(name), error);
  if (error) {
    discard(file);
    return fail(io_error("Can't rename", impl_->path(file), error.value()));
  }
  Entry entry = entry_of(name, *std::move(found), key, std::string(model));
  entry.context.used = Clock::now();
  SavedContext context = entry.context;
  {
    const std::lock_guard held(impl_->mutex);
    impl_->remove_superseded(entry);
    impl_->shrink_to(impl_->max_bytes - bytes);
    impl_->entries.push_back(std::move(entry));
    impl_->to_sync.push_back(name);
  }
  impl_->changed.notify_all();
  return context;
}

void SavedContexts::discard(const std::string& file) {
  const std::lock_guard held(impl_->mutex);
  if (const Entry* entry = impl_->find(file)) {
    impl_->remove(impl_->entries.begin() + (entry - impl_->entries.data()));
    return;
  }
  if (kind_of(file) != FileKind::kPart) return;
  std::error_code ignored;
  if (fs::remove(impl_->path(file), ignored)) return;
  if (impl_->abandoned.size() < kMaxAbandoned) impl_->abandoned.insert(file);
}

Result<std::shared_ptr<void>> SavedContexts::use(const std::string& file) {
  struct stat status{};
  const bool there = ::lstat(impl_->path(file).c_str(), &status) == 0;
  const std::lock_guard held(impl_->mutex);
  Entry* const entry = impl_->find(file);
  if (entry == nullptr) return fail(kIo, "It is not there any more.");
  const auto modified_ns = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  if (!there || static_cast<std::uint64_t>(status.st_size) != entry->context.bytes ||
      modified_ns != entry->modified_ns) {
    return fail(kIo, "It is not what was saved any more.");
  }
  entry->context.used = Clock::now();
  set_last_use(impl_->sidecar_path(file), entry->context.used);
  ++entry->users;
  const auto release = [impl = impl_, file](void*) {
    const std::lock_guard lock(impl->mutex);
    const auto used = std::ranges::find_if(
        impl->entries, [&](const Entry& other) { return other.context.file == file; });
    if (used != impl->entries.end() && --used->users == 0 && used->doomed) impl->remove(used);
  };
  return std::shared_ptr<void>(this, release);
}

}  // namespace yoke::contexts
