// A look at a model file before an engine gets it: is it there, and is it a GGUF at all?
// Reads its first bytes only; any thread.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/result.h"

namespace yoke::engines {

inline constexpr ErrorCode kModelFileMissing{"model_file_missing"};
inline constexpr ErrorCode kModelFileInvalid{"model_file_invalid"};

// kModelFileMissing; kModelFileInvalid with what the file is instead; kIo if it can't be read.
// Passing says that the header is one of GGUF version 2 or 3, not that all of the file is there.
Result<void> check_model_file(const std::filesystem::path& path);

// The same for a HuggingFace model's directory: does it have a config.json and weights?
Result<void> check_model_directory(const std::filesystem::path& path);

// The bytes of a model file, of all parts if it is the first of a split one; 0 if it isn't there.
std::uint64_t model_file_bytes(const std::filesystem::path& path);

}  // namespace yoke::engines
