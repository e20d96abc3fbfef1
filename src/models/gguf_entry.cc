#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include <fmt/format.h>

#include "models/entry.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return result;
}

// "Q4_K_M", "IQ2_XXS", "TQ1_0", "F16", "BF16", "MXFP4_MOE"
bool is_quantization(std::string_view word) {
  const std::string text = upper(word);
  if (text == "F16" || text == "F32" || text == "BF16" || text == "FP16" || text == "FP32") {
    return true;
  }
  for (const std::string_view start : {"Q", "IQ", "TQ", "MXFP", "NVFP"}) {
    if (text.size() > start.size() && text.starts_with(start) && is_digit(text[start.size()])) {
      return true;
    }
  }
  return false;
}

std::string why_no_model(const gguf::Summary& summary) {
  switch (summary.kind) {
    case gguf::ModelKind::kProjector:
      return "is a multimodal projector, which goes with a model";
    case gguf::ModelKind::kAdapter:
      return "is a LoRA adapter, which goes with a model";
    case gguf::ModelKind::kPart:
      return fmt::format("is part {} of {} of a model whose first part was expected",
                         summary.part_number, summary.parts_in_all);
    case gguf::ModelKind::kModel:
      break;
  }
  return "has no tensors: it is a vocabulary, or empty";
}

}  // namespace

std::string quantization_in(std::string_view stem) {
  constexpr std::string_view kDynamic = "UD-";
  std::string_view found;
  for (std::size_t start = 0; start <= stem.size();) {
    const std::size_t end = std::min(stem.find_first_of("-.", start), stem.size());
    // The last one: a name may begin with what only looks like one.
    if (is_quantization(stem.substr(start, end - start))) {
      const bool dynamic = start >= kDynamic.size() &&
                           upper(stem.substr(start - kDynamic.size(), kDynamic.size())) == kDynamic;
      const std::size_t from = dynamic ? start - kDynamic.size() : start;
      found = stem.substr(from, end - from);
    }
    start = end + 1;
  }
  return upper(found);
}

std::string model_stem(const fs::path& path) {
  if (const auto split = gguf::parse_split_name(path.filename().native())) return split->prefix;
  return path.stem().string();
}

CatalogueEntry gguf_entry(const fs::path& path, const gguf::Model& model,
                          const gguf::Summary& summary) {
  CatalogueEntry entry;
  entry.format = "gguf";
  entry.path = fs::absolute(path).lexically_normal();
  for (const gguf::Part& part : model.parts) {
    const fs::path file = fs::absolute(part.name).lexically_normal();
    entry.files.push_back({.path = file, .bytes = part.file_bytes, .sha256 = {}});
  }
  entry.architecture = summary.architecture;
  entry.quantization = quantization_in(model_stem(path));
  if (entry.quantization.empty()) {
    entry.quantization = summary.file_type.value_or(summary.quantization);
  }
  entry.parameters = summary.parameters;
  entry.context_length = summary.context_length.value_or(0);
  return entry;
}

Result<CatalogueEntry> gguf_entry(const fs::path& path) {
  YOKE_TRY(const gguf::Model model, gguf::open_model(path));
  const gguf::Summary summary = gguf::summarize(model);
  if (summary.kind != gguf::ModelKind::kModel || summary.tensors == 0) {
    return fail(kNoModel, fmt::format("{} {}.", path.string(), why_no_model(summary)));
  }
  return gguf_entry(path, model, summary);
}

}  // namespace yoke::models
