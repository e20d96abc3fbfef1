#include "planner/placement_search.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "planner/kv_cache.h"

namespace yoke::planner {
namespace {

using Bytes = std::uint64_t;

Bytes over(Bytes needed, Bytes usable) { return needed > usable ? needed - usable : 0; }

double part_of(Bytes needed, Bytes usable) {
  constexpr double kHopeless = 1e6;
  if (needed == 0) return 0;
  return usable == 0 ? kHopeless : static_cast<double>(needed) / static_cast<double>(usable);
}

bool is_better(const Trial& a, const Trial& b) {
  constexpr double kSame = 1e-9;
  if (a.missing != b.missing) return a.missing < b.missing;
  if (std::abs(a.fullest - b.fullest) > kSame) return a.fullest < b.fullest;
  return a.unevenness < b.unevenness - kSame;
}

// What a GPU may get of the items: bytes that it can use, and bytes that it needs once.
struct Room {
  Bytes usable = 0;
  Bytes fixed = 0;
};

// Fills one GPU after the other up to `part` of what it can use. None if that is too little for all
// items; that it is the least number of GPUs makes the answer exact for items in a fixed order.
std::optional<std::vector<std::uint32_t>> fill(std::span<const Bytes> items,
                                               std::span<const Room> rooms, double part) {
  std::vector<std::uint32_t> counts(rooms.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < rooms.size(); ++i) {
    const double most = part * static_cast<double>(rooms[i].usable);
    Bytes used = rooms[i].fixed;
    for (; next < items.size(); ++next, ++counts[i]) {
      used += items[next];
      if (static_cast<double>(used) > most) break;
    }
  }
  if (next < items.size()) return std::nullopt;
  return counts;
}

// The least part of every GPU that holds all items; if there is none, the last gets all.
std::vector<std::uint32_t> fill_evenly(std::span<const Bytes> items, std::span<const Room> rooms) {
  constexpr int kDoublings = 24;
  constexpr int kHalvings = 30;
  double high = 1.0 / 64;
  auto counts = fill(items, rooms, high);
  for (int i = 0; i < kDoublings && !counts; ++i) counts = fill(items, rooms, high *= 2);
  if (!counts) {
    std::vector<std::uint32_t> last(rooms.size());
    last.back() = static_cast<std::uint32_t>(items.size());
    return last;
  }
  double low = 0;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    if (auto tighter = fill(items, rooms, middle)) {
      counts = std::move(tighter);
      high = middle;
    } else {
      low = middle;
    }
  }
  return *counts;
}

}  // namespace

Placements::Placements(const PlanRequest& request, const Inventory& inventory, Goal goal)
    : request_(&request), inventory_(&inventory), goal_(goal) {
  if (inventory.devices.empty()) return;
  gpus_.resize(inventory.devices.size() - 1);
  std::iota(gpus_.begin(), gpus_.end(), 1u);
}

Result<Placements> Placements::of(const PlanRequest& request, const Inventory& inventory,
                                  Goal goal) {
  if (inventory.devices.empty() || request.shape.layers.empty()) {
    return fail(kModelUnplannable, "There is nothing to plan: no device, or a model of no layers.");
  }
  if (request.split.size() + 1 > inventory.devices.size()) {
    return fail(kModelUnplannable, "tensor_split has more shares than there are GPUs.",
                "Give one share per GPU.");
  }
  Placements placements(request, inventory, goal);
  placements.measure_items();
  return placements;
}

// Weights, cache and state of each layer. Estimates of whole placements take longer.
void Placements::measure_items() {
  const CacheCells cells = cells_of(request_->shape, request_->options);
  for (const LayerShape& layer : request_->shape.layers) {
    DeviceMemory item;
    item.weights = layer.weight_bytes;
    // Whether the types suit it, estimate_memory() says.
    static_cast<void>(add_cache(item, request_->shape, layer, request_->options, cells));
    item_bytes_.push_back(item.total());
  }
  item_bytes_.push_back(request_->shape.output_bytes);
}

Placement Placements::placement_of(const Counts& counts) const {
  Placement placement;
  for (std::uint32_t i = 0; i < inventory_->devices.size(); ++i) {
    const ComputeDevice& device = inventory_->devices[i];
    const DeviceKind kind = i == 0          ? DeviceKind::kCpu
                            : device.remote ? DeviceKind::kRemote
                                            : DeviceKind::kGpu;
    placement.devices.push_back({kind, device.backend});
    placement.layer_device.insert(placement.layer_device.end(), counts[i], i);
  }
  placement.output_device = placement.layer_device.back();
  placement.layer_device.pop_back();
  return placement;
}

void Placements::tally(Trial& trial) const {
  const std::vector<ComputeDevice>& devices = inventory_->devices;
  trial.pools.assign(inventory_->pools.size(), 0);
  std::vector<Bytes> unreachable(inventory_->pools.size());
  for (std::uint32_t i = 0; i < devices.size(); ++i) {
    const Bytes needed = trial.memory.devices[i].total();
    trial.pools[devices[i].pool] += needed;
    const Bytes too_much = over(needed, inventory_->usable(i));
    unreachable[devices[i].pool] += too_much;
    if (i > 0) trial.missing_on_gpus += too_much;
  }
  for (std::uint32_t i = 0; i < trial.pools.size(); ++i) {
    const Bytes too_much = over(trial.pools[i], inventory_->pools[i].usable());
    trial.missing += std::max(too_much, unreachable[i]);
    if (i != devices.front().pool) {
      trial.missing_on_gpus += over(too_much, unreachable[i]);
    }
  }
  for (const std::uint32_t gpu : gpus_) {
    const std::uint32_t pool = devices[gpu].pool;
    const double part =
        std::max(part_of(trial.memory.devices[gpu].total(), inventory_->usable(gpu)),
                 part_of(trial.pools[pool], inventory_->pools[pool].usable()));
    trial.fullest = std::max(trial.fullest, part);
    trial.unevenness += part * part;
  }
}

Result<Trial> Placements::trial(const Counts& counts) const {
  if (counts.size() != inventory_->devices.size() ||
      std::reduce(counts.begin(), counts.end()) != items()) {
    return fail(kModelUnplannable, "The placement does not fit the model.");
  }
  Trial trial;
  trial.counts = counts;
  YOKE_TRY(trial.memory, estimate_memory(request_->shape, request_->options, placement_of(counts)));
  tally(trial);
  return trial;
}

Result<Trial> Placements::balance(std::uint32_t on_cpu, std::span<const std::uint32_t> gpus) const {
  constexpr int kRounds = 4;  // What a device needs once changes little after the first.
  const auto items = std::span(item_bytes_).subspan(on_cpu);
  std::vector<Room> rooms(gpus.size());
  std::optional<Trial> best;
  std::optional<Trial> last;
  for (int round = 0; round < kRounds; ++round) {
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      const std::uint32_t pool = inventory_->devices[gpus[i]].pool;
      const auto sharing = static_cast<Bytes>(std::ranges::count_if(
          gpus, [&](std::uint32_t gpu) { return inventory_->devices[gpu].pool == pool; }));
      const bool with_cpu = pool == inventory_->devices.front().pool;
      const Bytes cpus = with_cpu && last ? last->memory.devices.front().total() : 0;
      const Bytes left = over(inventory_->pools[pool].usable(), cpus) / sharing;
      rooms[i].usable = std::min(inventory_->usable(gpus[i]), left);
    }
    const std::vector<std::uint32_t> filled = fill_evenly(items, rooms);
    Counts counts(inventory_->devices.size());
    counts.front() = on_cpu;
    for (std::size_t i = 0; i < gpus.size(); ++i) counts[gpus[i]] = filled[i];
    if (last && last->counts == counts) break;
    YOKE_TRY(last, trial(counts));
    auto from = items.begin();
    for (std::size_t i = 0; i < gpus.size(); from += filled[i], ++i) {
      if (filled[i] == 0) continue;
      const Bytes own = std::accumulate(from, from + filled[i], Bytes{0});
      rooms[i].fixed = over(last->memory.devices[gpus[i]].total(), own);
    }
    if (!best || is_better(*last, *best)) best = *last;
    if (good_enough(*best)) break;
  }
  return std::move(*best);
}

// Moves single items over the borders between GPUs as long as that is better.
Result<Trial> Placements::polish(Trial best, std::span<const std::uint32_t> gpus) const {
  constexpr int kTrials = 64;
  int tried = 0;
  for (bool moved = true; moved && tried < kTrials && !good_enough(best);) {
    moved = false;
    for (std::size_t i = 0; i + 1 < gpus.size() && tried < kTrials; ++i) {
      for (const auto& [from, to] :
           {std::pair(gpus[i], gpus[i + 1]), std::pair(gpus[i + 1], gpus[i])}) {
        if (best.counts[from] == 0) continue;
        Counts counts = best.counts;
        --counts[from];
        ++counts[to];
        ++tried;
        YOKE_TRY(Trial other, trial(counts));
        if (!is_better(other, best)) continue;
        best = std::move(other);
        moved = true;
      }
    }
  }
  return best;
}

Result<Trial> Placements::spread(std::uint32_t on_cpu, std::span<const std::uint32_t> gpus,
                                 bool polished) const {
  if (gpus.empty() || on_cpu == items()) {
    Counts counts(inventory_->devices.size());
    counts.front() = items();
    return trial(counts);
  }
  const auto is_share = [](double share) { return share > 0; };
  if (std::ranges::any_of(request_->split, is_share)) return trial(by_users_split(on_cpu));
  YOKE_TRY(Trial balanced, balance(on_cpu, gpus));
  return polished ? polish(std::move(balanced), gpus) : balanced;
}

// The rule of llama.cpp's load_tensors(), with its single precision: an item goes to the first
// device whose share ends behind it.
Counts Placements::by_users_split(std::uint32_t on_cpu) const {
  std::vector<float> ends;
  float sum = 0;
  for (std::size_t i = 0; i < gpus_.size(); ++i) {
    if (i < request_->split.size()) sum += static_cast<float>(request_->split[i]);
    ends.push_back(sum);
  }
  for (float& end : ends) end /= sum;
  Counts counts(inventory_->devices.size());
  counts.front() = on_cpu;
  const std::uint32_t count = items() - on_cpu;
  for (std::uint32_t i = 0; i < count; ++i) {
    const float at = static_cast<float>(i) / static_cast<float>(count);
    const auto end = std::ranges::upper_bound(ends, at);
    const auto gpu = std::min<std::ptrdiff_t>(end - ends.begin(), std::ssize(ends) - 1);
    ++counts[gpus_[static_cast<std::size_t>(gpu)]];
  }
  return counts;
}

Result<Trial> Placements::spill() const {
  std::uint32_t low = 0;  // Too few.
  std::uint32_t high = items();
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    YOKE_TRY(const Trial tried, spread(middle, gpus_, false));
    (tried.missing_on_gpus == 0 ? high : low) = middle;
  }
  return spread(high, gpus_, true);
}

Result<Trial> Placements::best() const {
  if (request_->gpu_layers >= 0) {
    const auto wanted = static_cast<std::uint32_t>(request_->gpu_layers);
    return spread(items() - std::min(wanted, items()), gpus_, true);
  }
  std::vector<std::uint32_t> own;
  std::ranges::copy_if(gpus_, std::back_inserter(own),
                       [&](std::uint32_t gpu) { return !inventory_->devices[gpu].remote; });
  if (!own.empty() && own.size() < gpus_.size() && request_->split.empty()) {
    YOKE_TRY(Trial here, spread(0, own, true));
    if (here.missing == 0) return here;
  }
  YOKE_TRY(Trial everywhere, spread(0, gpus_, true));
  if (everywhere.missing == 0 || gpus_.empty()) return everywhere;
  YOKE_TRY(Trial spilled, spill());
  // Where neither fits, layers on the CPU only move what is missing if it shares a GPU's memory.
  const bool shared = std::ranges::any_of(gpus_, [&](std::uint32_t gpu) {
    return inventory_->devices[gpu].pool == inventory_->devices.front().pool;
  });
  const bool better = shared ? spilled.missing == 0 : spilled.missing < everywhere.missing;
  return better ? spilled : everywhere;
}

std::optional<std::uint32_t> Placements::experts_to_move() const {
  if (gpus_.size() != 1) return std::nullopt;
  Counts counts{0, items()};
  const auto all = trial(counts);
  if (!all || all->missing_on_gpus == 0) return std::nullopt;
  const std::vector<LayerShape>& layers = request_->shape.layers;
  const ComputeDevice& cpu = inventory_->devices.front();
  Bytes moved = 0;
  for (std::uint32_t i = 0; i < layers.size(); ++i) {
    moved += layers[i].expert_bytes;
    if (moved < all->missing_on_gpus) continue;
    const bool room =
        all->memory.devices.front().total() + moved <= inventory_->pools[cpu.pool].usable();
    return room ? std::optional(i + 1) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace yoke::planner
