// A catalogue entry from the files of a model, by their headers. Reads only; blocks; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gguf/summary.h"
#include "models/catalogue.h"

namespace yoke::models {

inline constexpr ErrorCode kNoModel{"no_model"};  // Files of which none is a model by itself.

// Of the GGUF model at `path`, in the first of its files. Without name, source, revision and added;
// files without SHA-256. kNoModel for a projector, an adapter or a lone part; errors of
// gguf::open_model.
Result<CatalogueEntry> gguf_entry(const std::filesystem::path& path);
// The same of an open one; `path` is its first file.
CatalogueEntry gguf_entry(const std::filesystem::path& path, const gguf::Model& model,
                          const gguf::Summary& summary);

// Of a directory with config.json and safetensors. The same is left out. kNoModel if weights are
// missing; kIo.
Result<CatalogueEntry> huggingface_entry(const std::filesystem::path& dir);

// Whether huggingface_entry would look at it: both kinds of files are there.
bool is_huggingface_model(const std::filesystem::path& dir);

// "UD-Q4_K_XL", "Q8_0", "BF16": the quantization that the name of a file without its ending says,
// in capitals; empty if it says none.
std::string quantization_in(std::string_view stem);

// The stem of a model's first file: without ".gguf" and "-00001-of-00003".
std::string model_stem(const std::filesystem::path& path);

}  // namespace yoke::models
