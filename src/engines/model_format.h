// Which engine a model is for. Looks at the file system; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "engines/install.h"

namespace yoke::engines {

// vLLM for a directory (a HuggingFace model), llama.cpp for anything else.
EngineKind engine_kind_for(const std::filesystem::path& model);

// Tells one content of a model file or directory from another without reading it: changes with the
// size or the time of a change. "0" if there is none.
std::string model_stamp(const std::filesystem::path& model);

// Bytes of the weights that vLLM loads: the *.safetensors of a directory, else the *.bin; 0 if
// there are none.
std::uint64_t weights_bytes(const std::filesystem::path& directory);

}  // namespace yoke::engines
