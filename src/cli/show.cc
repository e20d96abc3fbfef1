#include "cli/show.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json_text.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/table.h"
#include "cli/text_wrap.h"
#include "gguf/tensor_type.h"

namespace yoke::cli {
namespace {

namespace json = boost::json;
using gguf::ModelKind;
using gguf::Summary;

// Foreign text as one line that can't drive the terminal.
std::string safe(std::string_view text) { return wrap(printable(text), 0).front(); }

// The length of the UTF-8 sequence at the front of `text`; 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t length = byte(0) < 0xc2   ? 0
                             : byte(0) < 0xe0 ? 2
                             : byte(0) < 0xf0 ? 3
                             : byte(0) < 0xf5 ? 4
                                              : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xf0 && byte(1) < 0x90);
  const bool no_character =
      (byte(0) == 0xed && byte(1) >= 0xa0) || (byte(0) == 0xf4 && byte(1) >= 0x90);
  return overlong || no_character ? 0 : length;
}

// JSON takes only UTF-8; what is not becomes U+FFFD.
json::string utf8(std::string_view text) {
  json::string valid;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view piece = length > 0 ? text.substr(0, length) : "\xef\xbf\xbd";
    valid.append({piece.data(), piece.size()});
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return valid;
}

// "1.03 T", "134.5 M", "512"
std::string count_text(std::uint64_t count) {
  const auto value = static_cast<double>(count);
  if (count >= 1'000'000'000'000) return fmt::format("{:.2f} T", value / 1e12);
  if (count >= 1'000'000'000) return fmt::format("{:.2f} B", value / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", count);
}

std::string range_text(const gguf::Range& range) {
  if (range.least == range.most) return fmt::format("{}", range.most);
  return fmt::format("{} to {}", range.least, range.most);
}

// Values behind their labels, in a column.
class Lines {
 public:
  explicit Lines(const Terminal& terminal) : terminal_(terminal) {}

  void title(std::string_view text) { text_ += terminal_.bold(safe(text)) + "\n"; }
  void add(std::string_view label, std::string_view value) {
    constexpr std::size_t kLeast = 20;
    std::string before = fmt::format("  {:<14} ", label);
    const auto width = static_cast<std::size_t>(terminal_.width);
    const std::size_t room =
        width == 0 ? 0 : std::max(width, before.size() + kLeast) - before.size();
    for (const std::string& line : wrap(safe(value), room)) {
      text_ += before + line + "\n";
      before.assign(before.size(), ' ');
    }
  }
  template <class T>
  void add(std::string_view label, const std::optional<T>& value, std::string_view unit = {}) {
    if (value) add(label, fmt::format("{}{}", *value, unit));
  }
  std::string take() { return std::move(text_); }

 private:
  const Terminal& terminal_;
  std::string text_;
};

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

void add_shape(Lines& lines, const Summary& summary) {
  lines.add("Context", summary.context_length, " tokens");
  lines.add("Layers", summary.layers);
  lines.add("Embedding", summary.embedding_length);
  if (summary.heads && summary.kv_heads) {
    lines.add("Heads", fmt::format("{}; {} for keys and values", range_text(*summary.heads),
                                   range_text(*summary.kv_heads)));
  }
  if (summary.experts) {
    lines.add("Experts", fmt::format("{}, of which each token uses {}", *summary.experts,
                                     summary.experts_used.value_or(0)));
  }
  if (summary.kv_lora_rank) {
    lines.add("Attention", fmt::format("multi-head latent (MLA), rank {}", *summary.kv_lora_rank));
  }
  lines.add("Sliding window", summary.sliding_window, " tokens, in some or all layers");
  if (summary.recurrent) lines.add("Recurrent", "some or all layers keep a state of fixed size");
}

void add_tokenizer(Lines& lines, const Summary& summary) {
  std::vector<std::string> parts;
  if (!summary.tokenizer.empty()) parts.push_back(summary.tokenizer);
  if (!summary.tokenizer_pre.empty()) parts.push_back(summary.tokenizer_pre);
  if (summary.vocabulary) parts.push_back(fmt::format("{} tokens", *summary.vocabulary));
  if (!parts.empty()) lines.add("Tokenizer", fmt::format("{}", fmt::join(parts, ", ")));
  if (summary.chat_template.empty()) {
    if (summary.kind == ModelKind::kModel) lines.add("Chat template", "none");
    return;
  }
  std::string text = fmt::format("{} bytes; --template shows it", summary.chat_template.size());
  if (!summary.more_templates.empty()) {
    text += fmt::format("; others for {}", fmt::join(summary.more_templates, ", "));
  }
  lines.add("Chat template", text);
}

template <class T>
json::value or_null(const std::optional<T>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::value range_json(const std::optional<gguf::Range>& range) {
  if (!range) return nullptr;
  return json::object{{"least", range->least}, {"most", range->most}};
}

Result<void> print_template(const Summary& summary, const ShowOptions& options) {
  if (summary.chat_template.empty()) {
    return fail(kInvalidArgument, fmt::format("{} has no chat template.", options.file),
                "Models that are not made for chat have none.");
  }
  const bool tty = Terminal::of(stdout).tty;
  // To a file it goes as it is.
  const std::string text = tty ? printable(summary.chat_template) + "\n" : summary.chat_template;
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flush_stdout();
}

std::string text_for(const ShowOptions& options, const gguf::Model& model, const Summary& summary) {
  if (options.json) {
    json::object object = summary_json(summary, options.file);
    if (options.tensors) object["tensors"] = tensors_json(model);
    return pretty_json_text(object) + "\n";
  }
  const Terminal terminal = Terminal::of(stdout);
  if (options.tensors) return format_tensors(model, terminal);
  return format_summary(summary, options.file, terminal);
}

}  // namespace

std::string format_summary(const Summary& summary, const std::string& file,
                           const Terminal& terminal) {
  Lines lines(terminal);
  lines.title(summary.name.empty() ? file : summary.name);
  lines.add("File", file);
  if (const std::string kind = kind_text(summary); !kind.empty()) lines.add("Kind", kind);
  if (!summary.architecture.empty()) lines.add("Architecture", summary.architecture);
  lines.add("Parameters", count_text(summary.parameters));
  lines.add("Size", size_text(summary));
  if (!summary.quantization.empty()) {
    const bool differs = summary.file_type && *summary.file_type != summary.quantization;
    lines.add("Quantization", summary.quantization +
                                  (differs ? fmt::format(" (the file says {})", *summary.file_type)
                                           : std::string()));
    lines.add("Stored as", types_text(summary));
  }
  add_shape(lines, summary);
  add_tokenizer(lines, summary);
  return lines.take();
}

json::object summary_json(const Summary& summary, const std::string& file) {
  json::array types;
  for (const gguf::TypeShare& share : summary.types) {
    types.push_back(
        json::object{{"type", share.type}, {"bytes", share.bytes}, {"tensors", share.tensors}});
  }
  json::array more_templates;
  for (const std::string& name : summary.more_templates) more_templates.push_back(utf8(name));
  const std::string_view kind = gguf::kind_name(summary.kind);
  json::object object{
      {"file", utf8(file)},
      {"kind", json::string_view(kind.data(), kind.size())},
      {"architecture", utf8(summary.architecture)},
      {"name", utf8(summary.name)},
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
      {"tokenizer", utf8(summary.tokenizer)},
      {"tokenizer_pre", utf8(summary.tokenizer_pre)},
      {"chat_template", utf8(summary.chat_template)},
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
    table.add_row({safe(tensor.name), gguf::tensor_type_name(tensor.type),
                   fmt::format("{}", fmt::join(dims, " x ")), format_bytes(tensor.bytes)});
  }
  return table.render(terminal);
}

json::array tensors_json(const gguf::Model& model) {
  json::array tensors;
  for (const gguf::Tensor& tensor : model.tensors) {
    json::array dims;
    for (std::uint32_t i = 0; i < tensor.dim_count; ++i) dims.push_back(tensor.dims[i]);
    tensors.push_back(json::object{{"name", utf8(tensor.name)},
                                   {"type", gguf::tensor_type_name(tensor.type)},
                                   {"shape", std::move(dims)},
                                   {"bytes", tensor.bytes},
                                   {"offset", tensor.offset},
                                   {"file", tensor.part}});
  }
  return tensors;
}

Result<void> show(const ShowOptions& options) {
  YOKE_TRY(const gguf::Model model, gguf::open_model(options.file));
  const Summary summary = gguf::summarize(model);
  if (options.chat_template) return print_template(summary, options);
  const std::string text = text_for(options, model, summary);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flush_stdout();
}

}  // namespace yoke::cli
