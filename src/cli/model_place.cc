#include "cli/model_place.h"

#include "base/paths.h"
#include "cli/terminal.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;

Result<config::Config> read(const std::string& file) {
  auto config = config::load_config(file.empty() ? config_dir() / "yoke.toml" : fs::path(file));
  if (config) return config;
  const bool may_be_missing = file.empty() && config.error().code == config::kConfigNotFound;
  if (!may_be_missing) return fail(std::move(config.error()));
  return config::Config{};
}

}  // namespace

Result<config::Config> config_of(const ModelPlace& place) {
  YOKE_TRY(config::Config config, read(place.config_file));
  if (!place.model_dir.empty()) config.server.model_dir = expand_home(place.model_dir);
  fs::path& dir = config.server.model_dir;
  dir = fs::absolute(dir).lexically_normal();
  if (!dir.has_filename()) dir = dir.parent_path();
  return config;
}

std::string short_path(const fs::path& path) {
  const fs::path home = expand_home("~");
  const fs::path inside = path.lexically_relative(home);
  const bool below = home.has_relative_path() && !inside.empty() && *inside.begin() != "..";
  return printable((below ? "~" / inside : path).string());
}

}  // namespace yoke::cli
