// SavedContexts: a directory of KV caches that engines wrote, bounded in size, the oldest out
// first. One context is restored only for the very model file, engine build and cache types that it
// was saved for. Owned by the control loop; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::contexts {

// Fewer tokens are read again as fast as they are saved and restored.
inline constexpr std::size_t kWorthSaving = 256;

// All that a KV cache depends on, as one text: the model file's stamp, the engine's build, the
// backend, the cache's types, adapters. Whoever makes one decides; equal texts may be exchanged.
struct ContextKey {
  std::string text;
  friend bool operator==(const ContextKey&, const ContextKey&) = default;
};

struct SavedContext {
  std::string file;  // Its name in the directory.
  std::uint64_t bytes = 0;
  // What the context holds; up to the first image.
  std::shared_ptr<const std::vector<std::int32_t>> tokens;
  std::chrono::system_clock::time_point used{};  // Saved or restored.
};

class SavedContexts {
 public:
  // Makes the directory if it is missing, takes out what does not belong there or is over the
  // limit, with a line in the log. Files with names unlike its own are left alone. kIo, also if
  // another process has it open.
  static Result<std::unique_ptr<SavedContexts>> open(const std::filesystem::path& directory,
                                                     std::uint64_t max_bytes);
  // Waits until what was kept is on the disk.
  ~SavedContexts();

  const std::filesystem::path& directory() const;

  // Newest first.
  std::vector<SavedContext> of(const ContextKey& key) const;
  // How many there are of this model for other keys: of another file, engine or settings.
  std::size_t others_of(std::string_view model, const ContextKey& key) const;

  // Takes out the oldest until `bytes` more fit below the limit and leave some of the disk free.
  // kIo if they can't; nothing is taken out then.
  Result<void> make_room(std::uint64_t bytes);
  // A name for a file that an engine is about to write into the directory.
  std::string begin(const ContextKey& key);
  // The engine has written `bytes` to that file, for a model of this name. From now on the context
  // has another name; the oldest go until all fit, and those of the key of which this one lacks
  // next to nothing. kIo if the file is not what it should be: it is taken out then.
  Result<SavedContext> keep(const ContextKey& key, const std::string& file, std::uint64_t bytes,
                            std::string_view model);
  // Takes out a file of begin() or a context.
  void discard(const std::string& file);

  // Keeps a context from being taken out until the returned value goes, and makes it the newest.
  // kIo if it is gone or is not what it was: llama-server dies of a file that is cut short.
  Result<std::shared_ptr<void>> use(const std::string& file);

 private:
  struct Impl;
  explicit SavedContexts(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;  // Shared with the values of use().
};

}  // namespace yoke::contexts
