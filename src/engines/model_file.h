// A look at a model file before an engine gets it: is it there, and can it be a model at all?
// Reads headers only; any thread.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/result.h"
#include "gguf/file_source.h"

namespace yoke::engines {

using gguf::kModelFileMissing;
inline constexpr ErrorCode kModelFileInvalid{"model_file_invalid"};

// kModelFileMissing, for a part of a split model too; kModelFileInvalid with what the file is
// instead, or that it ends too early; kIo if it can't be read. Passing says that header and size
// are right, not that the weights are.
Result<void> check_model_file(const std::filesystem::path& path);

// The same for a HuggingFace model's directory: does it have a config.json and weights?
Result<void> check_model_directory(const std::filesystem::path& path);

// The bytes of a model file, of all parts if it is the first of a split one; 0 if it isn't there.
std::uint64_t model_file_bytes(const std::filesystem::path& path);

}  // namespace yoke::engines
