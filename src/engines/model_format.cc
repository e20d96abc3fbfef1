#include "engines/model_format.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <tuple>
#include <vector>

#include <fmt/format.h>

#include "engines/model_file.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;

// More than any model's directory has; what is beyond is not looked at.
constexpr std::size_t kMaxFiles = 10'000;

struct FileStamp {
  std::string name;
  std::uintmax_t size = 0;
  std::int64_t changed = 0;  // Nanoseconds of the file system's clock.
  auto operator<=>(const FileStamp&) const = default;
};

// Size 0 and time 0 for what is not there or no file.
FileStamp stamp_of(const fs::path& file) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) return {};
  const std::uintmax_t size = fs::file_size(file, error);
  if (error) return {};
  const auto time = fs::last_write_time(file, error).time_since_epoch();
  if (error) return {};
  const auto changed = std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
  return {file.filename().string(), size, changed};
}

// Those of a directory, by name. Links are followed: a download's cache is made of them.
std::vector<FileStamp> stamps_in(const fs::path& directory) {
  std::vector<FileStamp> stamps;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end;
       !error && it != end && stamps.size() < kMaxFiles; it.increment(error)) {
    FileStamp stamp = stamp_of(it->path());
    if (!stamp.name.empty() && !stamp.name.starts_with('.')) stamps.push_back(std::move(stamp));
  }
  std::sort(stamps.begin(), stamps.end());
  return stamps;
}

// FNV-1a, which is the same on every machine and in every build.
class Fingerprint {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) {
      value_ = (value_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    }
  }
  std::string text() const { return fmt::format("{:016x}", value_); }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

bool has_weights(const std::string& name) {
  return name.ends_with(".safetensors") || name.ends_with(".bin");
}

}  // namespace

EngineKind engine_kind_for(const fs::path& model) {
  std::error_code error;
  return fs::is_directory(model, error) ? EngineKind::kVllm : EngineKind::kLlamaCpp;
}

std::string model_stamp(const fs::path& model) {
  std::error_code error;
  if (!fs::is_directory(model, error)) {
    const FileStamp stamp = stamp_of(model);
    if (stamp.name.empty()) return "0";
    // Of a split model the first part's time stands for all, and the size is that of all.
    return fmt::format("{}-{}", model_file_bytes(model), stamp.changed);
  }
  const std::vector<FileStamp> stamps = stamps_in(model);
  if (stamps.empty()) return "0";
  Fingerprint fingerprint;
  for (const FileStamp& stamp : stamps) {
    fingerprint.add(fmt::format("{}\n{}\n{}\n", stamp.name, stamp.size, stamp.changed));
  }
  return fingerprint.text();
}

std::uint64_t weights_bytes(const fs::path& directory) {
  std::uint64_t safetensors = 0;
  std::uint64_t others = 0;
  for (const FileStamp& stamp : stamps_in(directory)) {
    if (!has_weights(stamp.name)) continue;
    (stamp.name.ends_with(".bin") ? others : safetensors) += stamp.size;
  }
  // Some models come in both forms, of which vLLM loads the first.
  return safetensors > 0 ? safetensors : others;
}

}  // namespace yoke::engines
