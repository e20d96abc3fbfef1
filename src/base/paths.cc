#include "base/paths.h"

#include <cstdlib>
#include <string>
#include <system_error>

namespace yoke {
namespace {

namespace fs = std::filesystem;

fs::path home() {
  const char* home = std::getenv("HOME");
  return home != nullptr && *home != '\0' ? fs::path(home) : fs::path("/");
}

// The specification: a value that is no absolute path is ignored.
fs::path xdg(const char* variable, std::string_view fallback) {
  const char* value = std::getenv(variable);
  if (value != nullptr && *value == '/') return fs::path(value) / "yoke";
  return home() / fallback / "yoke";
}

}  // namespace

fs::path config_dir() { return xdg("XDG_CONFIG_HOME", ".config"); }
fs::path data_dir() { return xdg("XDG_DATA_HOME", ".local/share"); }
fs::path state_dir() { return xdg("XDG_STATE_HOME", ".local/state"); }
fs::path model_dir() { return data_dir() / "models"; }

std::vector<fs::path> engine_dirs() {
  std::vector<fs::path> dirs;
  if (const char* named = std::getenv("YOKE_ENGINE_DIR"); named != nullptr && *named != '\0') {
    dirs.emplace_back(named);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) {
    dirs.push_back(program.parent_path() / "engines");
    dirs.push_back(program.parent_path().parent_path() / "lib/yoke/engines");
  }
  dirs.push_back(data_dir() / "engines");
  return dirs;
}

fs::path expand_home(std::string_view path) {
  if (path == "~") return home();
  if (path.starts_with("~/")) return home() / path.substr(2);
  return fs::path(path);
}

}  // namespace yoke
