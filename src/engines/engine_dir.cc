#include "engines/engine_dir.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <unistd.h>

#include "base/json_fields.h"
#include "engines/install.h"

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;

// Far more than an engine.json has.
constexpr std::size_t kMaxManifestBytes = 4u << 20;

std::string first_bytes(std::ifstream& in, std::size_t limit) {
  std::string text(limit, '\0');
  in.read(text.data(), static_cast<std::streamsize>(limit));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

}  // namespace

bool is_program(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

std::vector<fs::path> subdirectories(const fs::path& dir) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    const bool unfinished = it->path().filename().string().starts_with('.');
    if (!unfinished && it->is_directory(ignored)) found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<int> version_numbers(std::string_view version) {
  std::vector<int> numbers;
  while (true) {
    int number = 0;
    const auto [end, error] =
        std::from_chars(version.data(), version.data() + version.size(), number);
    if (error != std::errc()) return numbers;
    numbers.push_back(number);
    version.remove_prefix(static_cast<std::size_t>(end - version.data()));
    if (!version.starts_with('.')) return numbers;
    version.remove_prefix(1);
  }
}

fs::path program_on_path(std::string_view name) {
  const char* value = std::getenv("PATH");
  std::string_view path = value != nullptr ? value : "";
  while (!path.empty()) {
    const std::string_view dir = path.substr(0, path.find(':'));
    path.remove_prefix(std::min(path.size(), dir.size() + 1));
    // An empty entry means the working directory.
    if (!dir.starts_with('/')) continue;
    if (fs::path program = fs::path(dir) / name; is_program(program)) return program;
  }
  return {};
}

Result<EngineManifest> read_manifest(const fs::path& dir) {
  std::ifstream in(dir / "engine.json", std::ios::binary);
  if (!in) return fail(kEngineNotFound, "It has no engine.json.");
  YOKE_TRY(const auto document, parse_json(first_bytes(in, kMaxManifestBytes)));
  YOKE_TRY(const auto fields, JsonFields::of(document));
  EngineManifest manifest;
  YOKE_TRY(manifest.name, fields.string("name"));
  YOKE_TRY(manifest.version, fields.string("version"));
  YOKE_TRY(manifest.backend, fields.string("backend"));
  manifest.program = fields.string_or("program", "");
  return manifest;
}

}  // namespace yoke::engines
