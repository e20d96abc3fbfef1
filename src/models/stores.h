// The layouts in which programs keep models, for scan(). Each adds to `found` what it sees and
// changes nothing; trouble with one model is a line in `skipped`. Any thread.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "models/import.h"

namespace yoke::models {

// Sets name, source and revision of an entry.
using Label = std::function<void(CatalogueEntry&)>;

// GGUF files and HuggingFace models in `dir` and the directories below it, to a depth and number
// that no real store reaches.
void scan_tree(const std::filesystem::path& dir, const Label& label, Found& found);

bool is_ollama_store(const std::filesystem::path& dir);
void scan_ollama(const std::filesystem::path& dir, Found& found);

bool is_huggingface_cache(const std::filesystem::path& dir);
void scan_huggingface_cache(const std::filesystem::path& dir, Found& found);

// Adds `name`, or a variation of it that no other model has.
void add_model(CatalogueEntry entry, Found& found);

// Whether `text` is so many hexadecimal digits.
bool is_hexadecimal(std::string_view text, std::size_t length);

}  // namespace yoke::models
