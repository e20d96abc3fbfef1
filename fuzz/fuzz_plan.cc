// From a GGUF header, which anybody may have written, to a plan. The first two bytes of an input
// say how the model would be run, the rest is the file. Whatever the header claims, a plan has to
// come soon, and its sums have to agree.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <span>
#include <string_view>

#include "gguf/header.h"
#include "gguf/model.h"
#include "planner/plan.h"

namespace {

using namespace yoke;

void require(bool holds) {
  if (!holds) std::abort();
}

class Input final : public gguf::ByteSource {
 public:
  explicit Input(std::string_view bytes) : bytes_(bytes) {}

  Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override {
    const std::uint64_t start = std::min<std::uint64_t>(offset, bytes_.size());
    const std::size_t count = std::min<std::size_t>(into.size(), bytes_.size() - start);
    std::copy_n(bytes_.data() + start, count, into.data());
    return count;
  }
  std::optional<std::uint64_t> size() const override { return std::nullopt; }  // No data needed.
  const std::string& name() const override { return name_; }

 private:
  std::string_view bytes_;
  std::string name_ = "input";
};

planner::RunOptions options_of(unsigned bits) {
  planner::RunOptions options;
  options.flash_attention = (bits & 1) != 0;
  options.unified_cache = (bits & 2) != 0;
  options.sequences = 1 + (bits >> 2 & 3);
  options.n_ctx = std::uint64_t{256} << (bits >> 4 & 7);
  options.n_ubatch = options.n_batch = (bits & 0x80) != 0 ? 2048 : 64;
  if ((bits & 0x100) != 0) options.cache_type_k = options.cache_type_v = "q8_0";
  return options;
}

planner::Inventory inventory_of(unsigned bits) {
  constexpr std::uint64_t kGib = std::uint64_t{1} << 30;
  planner::Inventory inventory;
  inventory.pools.push_back(
      {.name = "host", .total = 64 * kGib, .free = 60 * kGib, .reserve = kGib});
  inventory.devices.push_back({.name = "CPU", .backend = "cpu"});
  for (unsigned gpu = 0; gpu < (bits >> 9 & 3); ++gpu) {
    inventory.pools.push_back({.name = "gpu", .total = 24 * kGib, .free = 24 * kGib});
    inventory.devices.push_back({.name = "GPU", .backend = "vulkan", .pool = gpu + 1});
  }
  return inventory;
}

void check(const planner::Plan& plan, std::size_t layers) {
  std::size_t placed = 0;
  std::uint64_t memory = 0;
  for (const planner::Share& share : plan.shares) {
    placed += share.layers;
    memory += share.memory.total();
  }
  require(placed == layers);
  std::uint64_t planned = 0;
  bool over = false;
  for (const planner::PoolUse& pool : plan.pools) {
    planned += pool.planned;
    over = over || pool.planned > pool.usable;
  }
  require(planned == memory);
  require(!(plan.fits && over));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned bits = data[0] | static_cast<unsigned>(data[1]) << 8;
  Input input({reinterpret_cast<const char*>(data) + 2, size - 2});
  gguf::Limits limits;
  limits.header_bytes = 256 << 10;
  auto header = gguf::read_header(input, limits);
  if (!header) return 0;
  gguf::ModelAssembly assembly;
  if (!assembly.add(std::move(*header))) return 0;
  const auto model = assembly.finish();
  if (!model) return 0;
  auto shape = planner::shape_of(*model);
  if (!shape) {
    require(!shape.error().message.empty());
    return 0;
  }
  const std::size_t layers = shape->layers.size();
  const auto plan = planner::make_plan({.shape = std::move(*shape), .options = options_of(bits)},
                                       inventory_of(bits));
  if (plan) check(*plan, layers);
  return 0;
}
