#include "cli/show.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json_text.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/model_view.h"
#include "cli/page.h"
#include "cli/table.h"
#include "gguf/file_source.h"
#include "gguf/tensor_type.h"
#include "models/catalogue.h"
#include "models/entry.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using gguf::ModelKind;
using gguf::Summary;
using models::CatalogueEntry;

constexpr std::size_t kLabelWidth = 14;

std::string range_text(const gguf::Range& range) {
  if (range.least == range.most) return fmt::format("{}", range.most);
  return fmt::format("{} to {}", range.least, range.most);
}

void add_known(Page& page, std::string_view label, const std::optional<std::uint64_t>& value,
               std::string_view unit = {}) {
  if (value) page.add(label, fmt::format("{}{}", *value, unit));
}

std::string kind_text(const Summary& summary) {
  switch (summary.kind) {
    case ModelKind::kModel:
      break;
    case ModelKind::kProjector:
      return "a multimodal projector, which goes with a model";
    case ModelKind::kAdapter:
      return "a LoRA adapter, which goes with a model";
    case ModelKind::kPart:
      return fmt::format("part {} of {} of a model, which is loaded by its first part",
                         summary.part_number, summary.parts_in_all);
  }
  return {};
}

std::string size_text(const Summary& summary) {
  std::string text = format_bytes(summary.file_bytes);
  if (summary.parts > 1) text += fmt::format(" in {} files", summary.parts);
  if (summary.parameters == 0) return text;
  return text +
         fmt::format(", {:.2f} bits per weight", 8.0 * static_cast<double>(summary.tensor_bytes) /
                                                     static_cast<double>(summary.parameters));
}

std::string types_text(const Summary& summary) {
  std::vector<std::string> types;
  for (const gguf::TypeShare& share : summary.types) {
    types.push_back(fmt::format("{} {} in {} tensor{}", share.type, format_bytes(share.bytes),
                                share.tensors, share.tensors == 1 ? "" : "s"));
  }
  return fmt::format("{}", fmt::join(types, ", "));
}

void add_shape(Page& page, const Summary& summary) {
  add_known(page, "Context", summary.context_length, " tokens");
  add_known(page, "Layers", summary.layers);
  add_known(page, "Embedding", summary.embedding_length);
  if (summary.heads && summary.kv_heads) {
    page.add("Heads", fmt::format("{}; {} for keys and values", range_text(*summary.heads),
                                  range_text(*summary.kv_heads)));
  }
  if (summary.experts) {
    page.add("Experts", fmt::format("{}, of which each token uses {}", *summary.experts,
                                    summary.experts_used.value_or(0)));
  }
  if (summary.kv_lora_rank) {
    page.add("Attention", fmt::format("multi-head latent (MLA), rank {}", *summary.kv_lora_rank));
  }
  add_known(page, "Sliding window", summary.sliding_window, " tokens, in some or all layers");
  if (summary.recurrent) page.add("Recurrent", "some or all layers keep a state of fixed size");
}

void add_tokenizer(Page& page, const Summary& summary) {
  std::vector<std::string> parts;
  if (!summary.tokenizer.empty()) parts.push_back(summary.tokenizer);
  if (!summary.tokenizer_pre.empty()) parts.push_back(summary.tokenizer_pre);
  if (summary.vocabulary) parts.push_back(fmt::format("{} tokens", *summary.vocabulary));
  if (!parts.empty()) page.add("Tokenizer", fmt::format("{}", fmt::join(parts, ", ")));
  if (summary.chat_template.empty()) {
    if (summary.kind == ModelKind::kModel) page.add("Chat template", "none");
    return;
  }
  std::string text = fmt::format("{} bytes; --template shows it", summary.chat_template.size());
  if (!summary.more_templates.empty()) {
    text += fmt::format("; others for {}", fmt::join(summary.more_templates, ", "));
  }
  page.add("Chat template", text);
}

template <class T>
json::value or_null(const std::optional<T>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::value range_json(const std::optional<gguf::Range>& range) {
  if (!range) return nullptr;
  return json::object{{"least", range->least}, {"most", range->most}};
}

Result<std::string> template_text(const Summary& summary, const ShowOptions& options) {
  if (summary.chat_template.empty()) {
    return fail(kInvalidArgument, fmt::format("{} has no chat template.", options.file),
                "Models that are not made for chat have none.");
  }
  const bool tty = Terminal::of(stdout).tty;
  // To a file it goes as it is.
  return tty ? printable(summary.chat_template) + "\n" : summary.chat_template;
}

// What the user named: a file, an entry of the catalogue, or both.
struct Subject {
  std::string file;  // As it is shown; of an entry of another format empty.
  std::optional<CatalogueEntry> entry;
};

bool looks_like_path(std::string_view text) {
  return text.ends_with(".gguf") || text.starts_with('/') || text.starts_with('.') ||
         text.starts_with('~');
}

Result<Subject> subject_of(const ShowOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(options.file, error);
  if (fs::is_directory(status) && models::is_huggingface_model(options.file)) {
    YOKE_TRY(CatalogueEntry entry, models::huggingface_entry(options.file));
    entry.name = entry.path.filename().string();
    entry.source = "file:" + entry.path.string();
    return Subject{.file = {}, .entry = std::move(entry)};
  }
  if (fs::exists(status) && !fs::is_directory(status)) return Subject{options.file, {}};
  YOKE_TRY(const config::Config config, config_of(options.place));
  YOKE_TRY(const auto catalogue,
           models::Catalogue::open(config.server.model_dir, models::Catalogue::Use::kRead));
  auto entry = catalogue->find(options.file);
  if (!entry && looks_like_path(options.file)) return Subject{options.file, {}};
  if (!entry) return fail(std::move(entry.error()));
  std::string file = entry->format == "gguf" ? entry->path.string() : std::string();
  return Subject{.file = std::move(file), .entry = std::move(*entry)};
}

// What is known of it without its header: another format than GGUF, or the files are gone.
Result<std::string> text_for(const ShowOptions& options, const CatalogueEntry& entry) {
  if (options.chat_template || options.tensors) {
    return fail(kInvalidArgument, fmt::format("{} is no GGUF model that is there.", entry.name),
                "--template and --tensors are for these.");
  }
  if (options.json) {
    const json::object object{{"catalogue", entry_json(entry)}};
    return pretty_json_text(object) + "\n";
  }
  Page page(Terminal::of(stdout), kLabelWidth);
  add_entry(page, entry, true);
  return page.text();
}

std::string text_for(const ShowOptions& options, const Subject& subject, const gguf::Model& model,
                     const Summary& summary) {
  if (options.json) {
    json::object object = summary_json(summary, subject.file);
    if (options.tensors) object["tensors"] = tensors_json(model);
    if (subject.entry) object["catalogue"] = entry_json(*subject.entry);
    return pretty_json_text(object) + "\n";
  }
  const Terminal terminal = Terminal::of(stdout);
  if (options.tensors) return format_tensors(model, terminal);
  std::string text = format_summary(summary, subject.file, terminal);
  if (!subject.entry) return text;
  Page page(terminal, kLabelWidth);
  add_entry(page, *subject.entry, false);
  return text + "\n" + page.text();
}

Result<std::string> text_for(const ShowOptions& options) {
  YOKE_TRY(const Subject subject, subject_of(options));
  if (subject.file.empty()) return text_for(options, *subject.entry);
  const auto model = gguf::open_model(subject.file);
  const bool gone = !model && model.error().code == gguf::kModelFileMissing;
  if (gone && subject.entry) return text_for(options, *subject.entry);
  if (!model) return fail(model.error());
  const Summary summary = gguf::summarize(*model);
  if (options.chat_template) return template_text(summary, options);
  return text_for(options, subject, *model, summary);
}

}  // namespace

std::string format_summary(const Summary& summary, const std::string& file,
                           const Terminal& terminal) {
  Page page(terminal, kLabelWidth);
  page.title(summary.name.empty() ? file : summary.name);
  page.add("File", file);
  if (const std::string kind = kind_text(summary); !kind.empty()) page.add("Kind", kind);
  if (!summary.architecture.empty()) page.add("Architecture", summary.architecture);
  page.add("Parameters", format_count(summary.parameters));
  page.add("Size", size_text(summary));
  if (!summary.quantization.empty()) {
    const bool differs = summary.file_type && *summary.file_type != summary.quantization;
    page.add("Quantization", summary.quantization +
                                 (differs ? fmt::format(" (the file says {})", *summary.file_type)
                                          : std::string()));
    page.add("Stored as", types_text(summary));
  }
  add_shape(page, summary);
  add_tokenizer(page, summary);
  return page.text();
}

json::object summary_json(const Summary& summary, const std::string& file) {
  json::array types;
  for (const gguf::TypeShare& share : summary.types) {
    types.push_back(
        json::object{{"type", share.type}, {"bytes", share.bytes}, {"tensors", share.tensors}});
  }
  json::array more_templates;
  for (const std::string& name : summary.more_templates) more_templates.push_back(utf8_json(name));
  const std::string_view kind = gguf::kind_name(summary.kind);
  json::object object{
      {"file", utf8_json(file)},
      {"kind", json::string_view(kind.data(), kind.size())},
      {"architecture", utf8_json(summary.architecture)},
      {"name", utf8_json(summary.name)},
      {"parameters", summary.parameters},
      {"file_bytes", summary.file_bytes},
      {"tensor_bytes", summary.tensor_bytes},
      {"tensor_count", summary.tensors},
      {"files", summary.parts},
      {"quantization", summary.quantization},
      {"file_type", or_null(summary.file_type)},
      {"types", std::move(types)},
      {"context_length", or_null(summary.context_length)},
      {"layers", or_null(summary.layers)},
      {"embedding_length", or_null(summary.embedding_length)},
      {"heads", range_json(summary.heads)},
      {"kv_heads", range_json(summary.kv_heads)},
      {"experts", or_null(summary.experts)},
      {"experts_used", or_null(summary.experts_used)},
      {"kv_lora_rank", or_null(summary.kv_lora_rank)},
      {"sliding_window", or_null(summary.sliding_window)},
      {"recurrent", summary.recurrent},
      {"vocabulary", or_null(summary.vocabulary)},
      {"tokenizer", utf8_json(summary.tokenizer)},
      {"tokenizer_pre", utf8_json(summary.tokenizer_pre)},
      {"chat_template", utf8_json(summary.chat_template)},
      {"more_templates", std::move(more_templates)},
  };
  if (summary.kind == ModelKind::kPart) {
    object["part"] = summary.part_number;
    object["parts"] = summary.parts_in_all;
  }
  return object;
}

std::string format_tensors(const gguf::Model& model, const Terminal& terminal) {
  Table table({{"TENSOR"}, {"TYPE"}, {"SHAPE"}, {"SIZE", Table::Align::kRight}});
  for (const gguf::Tensor& tensor : model.tensors) {
    const auto dims = std::span(tensor.dims).first(tensor.dim_count);
    table.add_row({one_line(tensor.name), gguf::tensor_type_name(tensor.type),
                   fmt::format("{}", fmt::join(dims, " x ")), format_bytes(tensor.bytes)});
  }
  return table.render(terminal);
}

json::array tensors_json(const gguf::Model& model) {
  json::array tensors;
  for (const gguf::Tensor& tensor : model.tensors) {
    json::array dims;
    for (std::uint32_t i = 0; i < tensor.dim_count; ++i) dims.push_back(tensor.dims[i]);
    tensors.push_back(json::object{{"name", utf8_json(tensor.name)},
                                   {"type", gguf::tensor_type_name(tensor.type)},
                                   {"shape", std::move(dims)},
                                   {"bytes", tensor.bytes},
                                   {"offset", tensor.offset},
                                   {"file", tensor.part}});
  }
  return tensors;
}

Result<void> show(const ShowOptions& options) {
  YOKE_TRY(const std::string text, text_for(options));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flush_stdout();
}

}  // namespace yoke::cli
