// ModelReference: what a user calls a model that is to be got. Values; pure; any thread.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace yoke::models {

// "hf:unsloth/Kimi-K2.5-GGUF:UD-Q2_K_XL", "hf:org/repo", "hf:org/repo:dir/file.gguf",
// "hf:org/repo@revision:Q4_K_M"
struct HubReference {
  std::string repository;         // "unsloth/Kimi-K2.5-GGUF"
  std::string revision = "main";  // A branch, tag or commit.
  std::string choice;             // A quantization or a file; empty: the hub's usual one.
};

struct UrlReference {
  std::string url;  // http or https; may hold a user's password: never to be logged as it is.
};

struct FileReference {
  std::filesystem::path path;
};

using ModelReference = std::variant<HubReference, UrlReference, FileReference>;

// Text without a scheme is a file. kInvalidArgument with what forms there are.
Result<ModelReference> parse_reference(std::string_view text);

// Whether `text` has one of the schemes.
bool is_reference(std::string_view text);

// As it is shown and kept: without secrets.
std::string to_text(const ModelReference& reference);

}  // namespace yoke::models
