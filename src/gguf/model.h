// A model's GGUF file or files, as one. Values; any thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "gguf/header.h"

namespace yoke::gguf {

struct Part {
  std::string name;  // Its source's.
  std::uint64_t file_bytes = 0;
  std::uint64_t header_bytes = 0;
  std::uint64_t data_offset = 0;
};

struct Model {
  std::uint32_t version = 0;
  Metadata metadata;  // The first part's.
  std::vector<Part> parts;
  std::vector<Tensor> tensors;  // Of all parts.
  // Set if this is one part of a split model on its own, and not the first.
  std::optional<Split> lone_part;
  std::uint64_t file_bytes() const;
};

// A part of a split model has a name like "model-00002-of-00003.gguf".
struct SplitName {
  std::string prefix;    // "model"
  std::uint32_t number;  // From 1: 2
  std::uint32_t count;   // 3
  std::string of(std::uint32_t part_number) const;
};

// None if `file_name` is not of that form.
std::optional<SplitName> parse_split_name(std::string_view file_name);

// Joins the headers of a model's files, which are added in order. Pure.
class ModelAssembly {
 public:
  // kGgufInvalid if it is not the next part of this model; kGgufUnsupported if the model gets too
  // large.
  Result<void> add(Header header);

  // How many parts there have to be; known after the first.
  std::uint32_t expected_parts() const { return count_; }

  // kGgufTruncated if there are parts or tensors missing.
  Result<Model> finish();

 private:
  Result<void> check_fit(const Header& header) const;

  Model model_;
  std::uint32_t count_ = 0;
  std::optional<std::uint64_t> tensor_count_;
  std::unordered_set<std::string> names_;  // Of tensors; only of a split model.
};

// The headers of a model on disk: of all its parts if `path` is the first of a split one. Of
// another part only its own, as lone_part says. Errors of FileSource, read_header and
// ModelAssembly; kModelFileMissing for a part too.
Result<Model> open_model(const std::filesystem::path& path);

}  // namespace yoke::gguf
