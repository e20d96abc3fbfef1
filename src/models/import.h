// Models that other programs keep on this machine: linked into the catalogue, not copied. Blocks;
// one thread at a time.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/catalogue.h"

namespace yoke::models {

struct Skipped {
  std::filesystem::path path;
  std::string why;  // One sentence.
};

struct Found {
  std::vector<CatalogueEntry> models;  // With names that don't meet.
  std::vector<Skipped> skipped;        // Looked like a model and is none.
  std::string kind;  // "GGUF files", "Ollama's store", "LM Studio's store", "a HuggingFace cache"
};

// What is in a directory: GGUF files below it, Ollama's or LM Studio's store, a HuggingFace cache
// or model. Changes nothing. kInvalidArgument if it is no directory; kIo.
Result<Found> scan(const std::filesystem::path& dir);

// The directories where Ollama, LM Studio, llama.cpp and HuggingFace's libraries keep the models of
// this user, as far as they are there. Reads the environment.
std::vector<std::filesystem::path> known_stores();

struct Linked {
  CatalogueEntry entry;  // As it is in the catalogue then.
  bool added = false;    // It was not there before.
  bool changed = false;  // It was added, or became another.
};

// What link() would do. Errors of Catalogue.
Result<std::vector<Linked>> preview(Catalogue& catalogue, const std::vector<CatalogueEntry>& found);

// Puts what was found into the catalogue. An entry of the same file keeps its name, and stays as it
// is if Yoke downloaded it; a new one whose name is taken gets another. Errors of Catalogue.
Result<std::vector<Linked>> link(Catalogue& catalogue, const std::vector<CatalogueEntry>& found);

}  // namespace yoke::models
