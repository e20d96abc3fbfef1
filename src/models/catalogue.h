// Catalogue: the models that Yoke got or was shown, in one SQLite file, catalogue.db, in the
// directory of models. Several processes may read it; one at a time may change it. One thread at a
// time.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::models {

inline constexpr ErrorCode kModelsInUse{"models_in_use"};  // Another Yoke changes them.
inline constexpr ErrorCode kCatalogueFailed{"catalogue_failed"};
inline constexpr ErrorCode kModelUnknown{"model_unknown"};

enum class FileRole { kWeights, kProjector, kTokenizer, kOther };
std::string_view name_of(FileRole role);  // "weights", "projector", "tokenizer", "other"

struct ModelFile {
  std::filesystem::path path;  // Absolute.
  std::uint64_t bytes = 0;
  std::string sha256;  // Hexadecimal; empty if nobody said or computed it.
  FileRole role = FileRole::kWeights;
  bool linked = false;  // Belongs to somebody else: not removed with the entry.
  friend bool operator==(const ModelFile&, const ModelFile&) = default;
};

struct CatalogueEntry {
  std::string name;            // What requests call it; unique.
  std::string source;          // to_text(reference), or where it was imported from.
  std::string revision;        // The commit, of a hub's model.
  std::string format;          // "gguf", "huggingface"
  std::filesystem::path path;  // What an engine loads: the first file, or the directory.
  std::vector<ModelFile> files;
  // From its header, for lists.
  std::string architecture;
  std::string quantization;
  std::uint64_t parameters = 0;
  std::uint64_t context_length = 0;  // In tokens.
  std::chrono::system_clock::time_point added{};
  std::uint64_t bytes() const;
  std::filesystem::path projector() const;  // Empty: it has none.
  friend bool operator==(const CatalogueEntry&, const CatalogueEntry&) = default;
};

// A pull that has begun, and has no entry for what it gets.
struct BegunPull {
  struct File {
    std::filesystem::path path;  // Absolute: where it will lie.
    std::uint64_t bytes = 0;     // 0: nobody knows.
    friend bool operator==(const File&, const File&) = default;
  };
  std::string source;  // to_text(reference)
  std::vector<File> files;
  friend bool operator==(const BegunPull&, const BegunPull&) = default;
};

// Whether an entry may be called so: letters, digits and . _ : / + @ -, at most 128 of them, the
// first a letter or digit. As models of the configuration.
bool is_entry_name(std::string_view name);
// `text` as such a name: '-' for what it may not hold. "model" if nothing is left.
std::string entry_name(std::string_view text);

class Catalogue {
 public:
  enum class Use { kRead, kChange };
  // kChange makes the directory and the file where they are missing and keeps others from changing
  // them for as long as it is open: kModelsInUse. It puts a damaged file aside and says so in
  // notes(). kRead of a directory without a file is an empty catalogue; it works while another
  // process changes it, and where nothing may be written. kCatalogueFailed.
  static Result<std::unique_ptr<Catalogue>> open(const std::filesystem::path& model_dir, Use use);
  ~Catalogue();
  Catalogue(const Catalogue&) = delete;
  Catalogue& operator=(const Catalogue&) = delete;

  // What the user should know about how it was opened.
  const std::vector<std::string>& notes() const;

  // In place of one of the same name; all or nothing. A pull from its source is over.
  // kInvalidArgument for a name or path that can't be.
  Result<void> put(const CatalogueEntry& entry);
  Result<std::vector<CatalogueEntry>> entries();  // By name.
  // By its name, or by what only one of the names ends in or holds. kModelUnknown with the nearest.
  Result<CatalogueEntry> find(std::string_view name);
  // Only the entry; files are the caller's. `files` are written down with it, as what is still to
  // be removed from the disk. kModelUnknown.
  Result<void> remove(std::string_view name, const std::vector<std::filesystem::path>& files = {});
  // In place of one from the same source.
  Result<void> begin_pull(const BegunPull& pull);
  Result<std::vector<BegunPull>> begun_pulls();  // By source.
  // As remove().
  Result<void> forget_pull(std::string_view source,
                           const std::vector<std::filesystem::path>& files = {});
  // What was written down so and has not been settled, as a process that removes files may be
  // killed. put() takes the files of its entry out.
  Result<std::vector<std::filesystem::path>> leftovers();
  Result<void> settle_leftovers();

 private:
  struct Impl;
  explicit Catalogue(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::models
