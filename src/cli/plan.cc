#include "cli/plan.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <span>
#include <string_view>
#include <system_error>
#include <variant>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json_text.h"
#include "base/nearest.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/model_place.h"
#include "cli/plan_inputs.h"
#include "cli/plan_view.h"
#include "config/config.h"
#include "engines/model_file.h"
#include "engines/model_format.h"
#include "models/catalogue.h"
#include "models/pull.h"
#include "models/reference.h"
#include "planner/load_request.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
using config::FlashAttention;
using config::LoadOptions;

constexpr std::array<std::string_view, 4> kBackends{"vulkan", "rocm", "cuda", "cpu"};

// A model and how it would be loaded.
struct Subject {
  std::string name;  // As the user named it.
  fs::path path;     // Empty: it is elsewhere, and `model` is what is known of it.
  std::optional<gguf::Model> model;
  LoadOptions options;
};

// Values of the command line

Result<void> check_one_of(std::string_view flag, const std::string& value,
                          std::span<const std::string_view> allowed) {
  if (value.empty() || std::ranges::find(allowed, value) != allowed.end()) return {};
  return fail(kInvalidArgument,
              fmt::format("{} '{}' is none of {}.", flag, value, fmt::join(allowed, ", ")));
}

Result<void> set_number(std::string_view flag, std::optional<int> value, int least, int most,
                        int& into) {
  if (!value) return {};
  if (*value < least || *value > most) {
    return fail(kInvalidArgument,
                fmt::format("{} {} is not between {} and {}.", flag, *value, least, most));
  }
  into = *value;
  return {};
}

Result<void> set_flash_attention(const PlanOptions& options, LoadOptions& into) {
  constexpr std::array<std::string_view, 3> kModes{"on", "off", "auto"};
  YOKE_CHECK(check_one_of("--flash-attn", options.flash_attention, kModes));
  if (options.flash_attention == "on") into.flash_attn = FlashAttention::kOn;
  if (options.flash_attention == "off") into.flash_attn = FlashAttention::kOff;
  if (options.flash_attention == "auto") into.flash_attn = FlashAttention::kAuto;
  if (into.flash_attn != FlashAttention::kOff || !config::is_quantized(into.cache_type_v)) {
    return {};
  }
  return fail(kInvalidArgument,
              fmt::format("Values in {} need flash attention, which is off.", into.cache_type_v),
              "Leave out --flash-attn off, or use f16 for the values.");
}

// What is given on the command line comes before what is configured.
Result<void> set_options(const PlanOptions& options, LoadOptions& into) {
  constexpr int kMaxContext = 1 << 24;
  constexpr int kMaxBatch = 1 << 20;
  constexpr int kMaxRequests = 256;  // Of llama.cpp.
  YOKE_CHECK(set_number("--ctx", options.n_ctx, 0, kMaxContext, into.n_ctx));
  YOKE_CHECK(set_number("--parallel", options.parallel, 0, kMaxRequests, into.parallel));
  YOKE_CHECK(set_number("--batch", options.n_batch, 1, kMaxBatch, into.n_batch));
  YOKE_CHECK(set_number("--ubatch", options.n_ubatch, 1, kMaxBatch, into.n_ubatch));
  YOKE_CHECK(set_number("--gpu-layers", options.gpu_layers, -1, 10000, into.n_gpu_layers));
  const auto is_share = [](double share) { return share >= 0 && share <= 1e6; };
  if (!std::ranges::all_of(options.tensor_split, is_share)) {
    return fail(kInvalidArgument, "--tensor-split takes numbers from 0 on, such as 3,1.");
  }
  if (!options.tensor_split.empty()) into.tensor_split = options.tensor_split;
  if (!options.cache_type_k.empty()) into.cache_type_k = options.cache_type_k;
  if (!options.cache_type_v.empty()) into.cache_type_v = options.cache_type_v;
  YOKE_CHECK(check_one_of("--backend", options.backend, kBackends));
  if (!options.backend.empty()) into.backends = {options.backend};
  return set_flash_attention(options, into);
}

// The model

// One that can't be read matters only to a model that is named in it.
Result<config::Config> read_config(const PlanOptions& options, bool needed) {
  auto config = config_of({.config_file = options.config_file, .model_dir = options.model_dir});
  if (config || needed || !options.config_file.empty()) return config;
  return config::Config{};
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool looks_like_path(std::string_view text) {
  return text.ends_with(".gguf") || text.find_first_of("./~") == 0;
}

// In the configuration or the catalogue.
Result<Subject> find_by_name(const std::string& name, const config::Config& config) {
  const auto found = std::ranges::find(config.models, name, &config::ModelConfig::name);
  const bool configured = found != config.models.end();
  if (configured && found->catalogue_name.empty()) {
    return Subject{name, found->options.model_path, {}, found->options};
  }
  if (looks_like_path(name)) return Subject{name, name, {}, {}};
  YOKE_TRY(const auto catalogue,
           models::Catalogue::open(config.server.model_dir, models::Catalogue::Use::kRead));
  auto entry = catalogue->find(configured ? found->catalogue_name : name);
  if (entry) return Subject{name, entry->path, {}, configured ? found->options : LoadOptions{}};
  std::vector<std::string_view> names;
  for (const config::ModelConfig& model : config.models) names.push_back(model.name);
  if (const auto meant = nearest(name, names);
      meant && entry.error().code == models::kModelUnknown) {
    entry.error().hint = fmt::format("Did you mean {}, which the configuration has?", *meant);
  }
  return fail(std::move(entry.error()));
}

Result<Subject> find_model(const std::string& name, const config::Config& config) {
  if (is_there(name)) return Subject{name, name, {}, {}};
  if (!models::is_reference(name)) return find_by_name(name, config);
  YOKE_TRY(const models::ModelReference reference, models::parse_reference(name));
  if (const auto* file = std::get_if<models::FileReference>(&reference)) {
    return Subject{name, file->path, {}, {}};
  }
  YOKE_TRY(gguf::Model model, models::remote_model(reference, models::hub_access()));
  return Subject{models::to_text(reference), {}, std::move(model), {}};
}

// The plan

void note_file(std::vector<std::string>& notes, std::string_view setting, const fs::path& file) {
  if (file.empty()) return;
  std::error_code error;
  const std::uint64_t bytes = fs::file_size(file, error);
  notes.push_back(fmt::format("Not counted: {} ({}) and what it needs to compute.", setting,
                              error ? "whose size is unknown" : format_bytes(bytes)));
}

// What the engine takes besides, or does otherwise.
std::vector<std::string> notes_on(const LoadOptions& options, std::uint64_t trained_context) {
  std::vector<std::string> notes;
  if (trained_context > 0 && options.n_ctx > 0 &&
      static_cast<std::uint64_t>(options.n_ctx) > trained_context) {
    notes.push_back(fmt::format("The model was trained for a context of {} tokens, not {}.",
                                trained_context, options.n_ctx));
  }
  if (options.flash_attn == FlashAttention::kAuto) {
    notes.emplace_back(
        "flash_attn is auto: it counts as on, and the engine finds out at its start.");
  }
  if (!options.split_mode.empty() && options.split_mode != "layer") {
    notes.push_back(fmt::format("split_mode \"{}\" is planned as \"layer\".", options.split_mode));
  }
  note_file(notes, "mmproj", options.mmproj);
  note_file(notes, "draft_model", options.draft_model);
  for (const fs::path& adapter : options.lora) note_file(notes, "lora", adapter);
  return notes;
}

Result<void> plan_other_attention(const planner::PlanRequest& request, PlanReport& report) {
  planner::PlanRequest other = request;
  other.options.flash_attention = !request.options.flash_attention;
  auto plan = planner::plan_in_place(report.plan, other, report.inventory);
  if (plan) {
    report.other_attention = std::move(*plan);
  } else if (plan.error().code == planner::kModelUnplannable) {
    report.other_refused = plan.error().message;
  } else {
    return fail(std::move(plan.error()));
  }
  return {};
}

Result<PlanReport> report_on(const Subject& subject, const gguf::Model& model,
                             PlanHardware hardware) {
  const LoadOptions options = decided_options(subject.options, hardware);
  YOKE_TRY(planner::ModelShape shape, planner::shape_of(model));
  const planner::PlanRequest request = planner::plan_request(std::move(shape), options);

  PlanReport report;
  report.model = subject.name;
  report.hardware = std::move(hardware.name);
  report.summary = gguf::summarize(model);
  report.options = request.options;
  report.inventory = std::move(hardware.inventory);
  report.notes = notes_on(options, request.shape.context_length);
  report.cache_ram = options.cache_ram.value_or(0);
  YOKE_TRY(report.plan, planner::make_plan(request, report.inventory));
  YOKE_TRY(report.longest_context, planner::longest_context(request, report.inventory));
  YOKE_CHECK(plan_other_attention(request, report));
  if (!report.plan.fits) {
    YOKE_TRY(report.remedies, planner::find_remedies(request, report.inventory));
  }
  return report;
}

Result<void> print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flush_stdout();
}

// vLLM divides the memory that it is given by itself, when it starts.
Result<void> plan_directory(const Subject& subject, const PlanOptions& options) {
  YOKE_CHECK(engines::check_model_directory(subject.path));
  const std::uint64_t weights = engines::weights_bytes(subject.path);
  constexpr std::string_view kWhy =
      "vLLM plans its own memory: it takes the part of the GPU's that gpu_memory_utilization says, "
      "and what the weights leave of that is its KV cache.";
  if (options.json) {
    return print(pretty_json_text(boost::json::object{
                     {"model", subject.name},
                     {"format", "huggingface"},
                     {"weights", weights},
                     {"notes", boost::json::array{boost::json::string_view(kWhy)}}}) +
                 "\n");
  }
  return print(fmt::format("{}: a HuggingFace model, {} of weights.\n{}\n", subject.name,
                           format_bytes(weights), kWhy));
}

}  // namespace

Result<void> plan(const PlanOptions& options) {
  const bool by_name = !is_there(options.model) && !models::is_reference(options.model);
  YOKE_TRY(const config::Config config, read_config(options, by_name));
  YOKE_TRY(Subject subject, find_model(options.model, config));
  YOKE_CHECK(set_options(options, subject.options));
  std::error_code error;
  if (!subject.model && fs::is_directory(subject.path, error)) {
    return plan_directory(subject, options);
  }
  if (!subject.model) {
    YOKE_TRY(subject.model, gguf::open_model(subject.path));
  }
  YOKE_TRY(PlanHardware hardware, options.hardware_file.empty()
                                      ? this_hardware(subject.options, config.engines)
                                      : described_hardware(options.hardware_file, subject.options));
  YOKE_TRY(const PlanReport report, report_on(subject, *subject.model, std::move(hardware)));
  return print(options.json ? pretty_json_text(plan_json(report)) + "\n"
                            : format_plan(report, Terminal::of(stdout)));
}

}  // namespace yoke::cli
