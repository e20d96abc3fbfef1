#include "planner/plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "planner/placement_search.h"

namespace yoke::planner {
namespace {

using Bytes = std::uint64_t;

constexpr Bytes kContextStep = 256;          // llama.cpp rounds a context up to that.
constexpr Bytes kLongestContext = 1u << 24;  // Where the header doesn't say.

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::size_t layers_on_gpus(const Plan& plan) {
  std::size_t layers = 0;
  for (const Share& share : plan.shares) {
    if (share.device > 0) layers += share.layers;
  }
  return layers;
}

std::size_t gpus_used(const Plan& plan) {
  return static_cast<std::size_t>(std::ranges::count_if(plan.shares, [](const Share& share) {
    return share.device > 0 && (share.layers > 0 || share.output);
  }));
}

std::string why_it_fits(const Plan& plan, const ModelShape& shape) {
  const std::size_t on_gpus = layers_on_gpus(plan);
  const std::size_t gpus = gpus_used(plan);
  if (gpus == 0) return fmt::format("{} on the CPU.", counted(shape.layers.size(), "layer"));
  const std::string where = gpus == 1 ? "the GPU" : fmt::format("{} GPUs", gpus);
  if (plan.gpu_layers > shape.layers.size()) {
    return fmt::format("All {} and the output on {}.", counted(on_gpus, "layer"), where);
  }
  return fmt::format("{} of {} on {}, the rest on the CPU.", on_gpus,
                     counted(shape.layers.size(), "layer"), where);
}

std::string why_it_does_not(const Plan& plan, const Trial& trial, const Inventory& inventory) {
  const PoolUse& worst = *std::ranges::max_element(plan.pools, {}, [](const PoolUse& use) {
    return use.planned > use.usable ? use.planned - use.usable : 0;
  });
  if (worst.planned > worst.usable) {
    return fmt::format("{} are needed in {}, where {} can be used.", format_memory(worst.planned),
                       inventory.pools[worst.pool].name, format_memory(worst.usable));
  }
  // Then a GPU can't map as much.
  for (std::uint32_t i = 0; i < inventory.devices.size(); ++i) {
    const Bytes needed = trial.memory.devices[i].total();
    if (needed <= inventory.usable(i)) continue;
    return fmt::format("{} are needed on {}, which can map {}.", format_memory(needed),
                       inventory.devices[i].name, format_memory(inventory.usable(i)));
  }
  return "There is too little memory.";
}

Share share_of(const Trial& trial, std::uint32_t device, std::uint32_t first,
               std::uint32_t layers) {
  const std::uint32_t count = trial.counts[device];
  const std::uint32_t own = first >= layers ? 0 : std::min(count, layers - first);
  return {.device = device,
          .first_layer = own > 0 ? first : 0,
          .layers = own,
          .output = count > own,
          .memory = trial.memory.devices[device]};
}

// GPUs that are the CPU's equals in one memory.
bool shares_memory_with_cpu(const Inventory& inventory) {
  return std::any_of(
      inventory.devices.begin() + 1, inventory.devices.end(),
      [&](const ComputeDevice& device) { return device.pool == inventory.devices.front().pool; });
}

void note_shared_memory(Plan& plan, const Inventory& inventory) {
  const PoolUse& host = plan.pools[inventory.devices.front().pool];
  if (host.planned <= host.usable || !shares_memory_with_cpu(inventory)) return;
  plan.notes.emplace_back(
      "Layers on the CPU would save nothing: it shares its memory with the GPU.");
}

// The firmware and the kernel say how much of a unified memory the GPU may have.
void note_reach(Plan& plan, const Inventory& inventory) {
  for (std::uint32_t i = 1; i < inventory.devices.size(); ++i) {
    const ComputeDevice& device = inventory.devices[i];
    const Bytes pool = inventory.pools[device.pool].usable();
    if (inventory.usable(i) >= pool - pool / 10) continue;
    plan.notes.push_back(
        fmt::format("{} can map {} of {}. On an AMD APU `yoke doctor` says how to raise that.",
                    device.name, format_memory(inventory.usable(i)), format_memory(pool)));
  }
}

// With all layers on the one GPU, of how many the experts would have to stay on the CPU.
void note_experts(Plan& plan, const Placements& placements) {
  const auto count = placements.experts_to_move();
  if (!count) return;
  plan.notes.push_back(
      fmt::format("Faster may be all layers on the GPU without the experts of {}: extra_args = "
                  "[\"--n-cpu-moe\", \"{}\"] and n_gpu_layers = -1. That is an estimate.",
                  *count == 1 ? "the first" : fmt::format("the first {}", *count), *count));
}

void note_partial(Plan& plan, const PlanRequest& request, const Placements& placements) {
  if (request.gpu_layers >= 0 || placements.gpus().empty() ||
      plan.gpu_layers > request.shape.layers.size()) {
    return;
  }
  plan.notes.push_back(fmt::format(
      "Not all layers fit on the GPU, and a model's n_gpu_layers is all of them unless the "
      "configuration says otherwise: set n_gpu_layers = {}.",
      plan.gpu_layers));
  note_experts(plan, placements);
}

Plan plan_of(const Trial& trial, const Placements& placements) {
  const PlanRequest& request = placements.request();
  const Inventory& inventory = placements.inventory();
  const auto layers = static_cast<std::uint32_t>(request.shape.layers.size());
  Plan plan;
  plan.fits = trial.missing == 0;
  plan.missing = trial.missing;
  std::uint32_t first = 0;
  for (std::uint32_t i = 0; i < inventory.devices.size(); ++i) {
    const Share share = share_of(trial, i, first, layers);
    if (share.layers > 0 || share.output || share.memory.total() > 0) plan.shares.push_back(share);
    if (i > 0) plan.gpu_layers += trial.counts[i];
    first += trial.counts[i];
  }
  for (std::uint32_t i = 0; i < inventory.pools.size(); ++i) {
    plan.pools.push_back({i, trial.pools[i], inventory.pools[i].usable()});
  }
  plan.why = plan.fits ? why_it_fits(plan, request.shape) : why_it_does_not(plan, trial, inventory);
  if (!plan.fits) note_shared_memory(plan, inventory);
  if (plan.gpu_layers <= layers || !plan.fits) note_reach(plan, inventory);
  if (plan.fits) note_partial(plan, request, placements);
  plan.notes.insert(plan.notes.end(), trial.memory.notes.begin(), trial.memory.notes.end());
  plan.notes.insert(plan.notes.end(), inventory.notes.begin(), inventory.notes.end());
  return plan;
}

Result<bool> fits_with(const PlanRequest& request, const Inventory& inventory) {
  YOKE_TRY(const Placements placements,
           Placements::of(request, inventory, Placements::Goal::kAnyThatFits));
  YOKE_TRY(const Trial best, placements.best());
  return best.missing == 0;
}

// The options that take less memory, the least loss first. Each adds to those before.
std::vector<Remedy> smaller_options(const RunOptions& options) {
  constexpr std::uint64_t kSmallBatch = 512;  // llama.cpp's own.
  std::vector<Remedy> changes;
  Remedy now{"", options};
  const auto add = [&](std::string_view change) {
    if (!now.change.empty()) now.change += ' ';
    now.change += change;
    changes.push_back(now);
  };
  if (!options.flash_attention) {
    now.options.flash_attention = true;
    add("--flash-attn on");
  }
  if (options.n_ubatch > kSmallBatch) {
    now.options.n_ubatch = kSmallBatch;
    add(fmt::format("--ubatch {}", kSmallBatch));
  }
  if (options.cache_type_k == "f16" && options.cache_type_v == "f16") {
    now.options.cache_type_k = now.options.cache_type_v = "q8_0";
    add("--cache-type-k q8_0 --cache-type-v q8_0");
  }
  return changes;
}

}  // namespace

Result<Plan> make_plan(const PlanRequest& request, const Inventory& inventory) {
  YOKE_TRY(const Placements placements, Placements::of(request, inventory));
  YOKE_TRY(const Trial best, placements.best());
  return plan_of(best, placements);
}

Result<Plan> plan_in_place(const Plan& plan, const PlanRequest& request,
                           const Inventory& inventory) {
  YOKE_TRY(const Placements placements, Placements::of(request, inventory));
  Counts counts(inventory.devices.size());
  for (const Share& share : plan.shares) {
    if (share.device < counts.size()) counts[share.device] = share.layers + (share.output ? 1 : 0);
  }
  YOKE_TRY(const Trial trial, placements.trial(counts));
  return plan_of(trial, placements);
}

Result<std::optional<std::uint64_t>> longest_context(const PlanRequest& request,
                                                     const Inventory& inventory) {
  PlanRequest trying = request;
  YOKE_TRY(const Plan now, make_plan(request, inventory));
  if (now.fits) trying.gpu_layers = static_cast<int>(now.gpu_layers);
  const auto fits = [&](std::uint64_t steps) {
    trying.options.n_ctx = steps * kContextStep;
    return fits_with(trying, inventory);
  };
  const Bytes trained = request.shape.context_length;
  std::uint64_t high =
      std::min(trained > 0 ? trained : kLongestContext, kLongestContext) / kContextStep;
  std::uint64_t low = 0;  // It fits with so many steps, and `high` is not known to be too many.
  while (low < high) {
    const std::uint64_t middle = low + (high - low + 1) / 2;
    YOKE_TRY(const bool good, fits(middle));
    (good ? low : high) = good ? middle : middle - 1;
  }
  return low > 0 ? std::optional(low * kContextStep) : std::nullopt;
}

Result<Remedies> find_remedies(const PlanRequest& request, const Inventory& inventory) {
  Remedies found;
  PlanRequest trying = request;
  for (const Remedy& remedy : smaller_options(request.options)) {
    trying.options = remedy.options;
    YOKE_TRY(const bool fits, fits_with(trying, inventory));
    if (!fits) continue;
    found.remedies.push_back(remedy);
    break;
  }
  YOKE_TRY(const auto shorter, longest_context(request, inventory));
  if (shorter) {
    found.remedies.push_back({fmt::format("--ctx {}", *shorter), request.options});
    found.remedies.back().options.n_ctx = *shorter;
  }
  if (!found.remedies.empty()) return found;
  const std::vector<Remedy> smaller = smaller_options(request.options);
  const Remedy least = smaller.empty() ? Remedy{"", request.options} : smaller.back();
  trying.options = least.options;
  YOKE_TRY(const auto context, longest_context(trying, inventory));
  if (context) {
    found.remedies.push_back(least);
    found.remedies.back().change += fmt::format(" --ctx {}", *context);
    found.remedies.back().options.n_ctx = *context;
    return found;
  }
  trying.options.n_ctx = kContextStep;
  YOKE_TRY(const Plan plan, make_plan(trying, inventory));
  found.missing = plan.missing;
  return found;
}

std::vector<std::uint32_t> tensor_split_of(const Plan& plan, const Inventory& inventory) {
  if (inventory.devices.empty()) return {};
  std::vector<std::uint32_t> split(inventory.devices.size() - 1);
  for (const Share& share : plan.shares) {
    if (share.device > 0) split[share.device - 1] = share.layers + (share.output ? 1 : 0);
  }
  return split;
}

}  // namespace yoke::planner
