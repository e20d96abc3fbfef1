// Where Yoke keeps its files, by the XDG base directory specification. Reads the environment;
// any thread, as long as nobody changes the environment.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace yoke {

std::filesystem::path config_dir();  // $XDG_CONFIG_HOME/yoke
std::filesystem::path data_dir();    // $XDG_DATA_HOME/yoke: models and engines
std::filesystem::path state_dir();   // $XDG_STATE_HOME/yoke: chat history
std::filesystem::path model_dir();   // data_dir()/models

// The directories that may hold engines, best first: $YOKE_ENGINE_DIR, engines/ beside the program,
// ../lib/yoke/engines of an installed program, data_dir()/engines.
std::vector<std::filesystem::path> engine_dirs();

// A leading "~/" replaced by the home directory.
std::filesystem::path expand_home(std::string_view path);

}  // namespace yoke
