#include "planner/graph_allocator.h"

#include <algorithm>
#include <limits>

namespace yoke::planner {
namespace {

struct Address {
  std::uint32_t piece = 0;
  std::uint64_t offset = 0;
};

// ggml_dyn_tallocr
class Buffer {
 public:
  explicit Buffer(const BufferTraits& traits) : traits_(traits) {}

  std::uint64_t pad(std::uint64_t bytes) const {
    return (bytes + traits_.alignment - 1) / traits_.alignment * traits_.alignment;
  }
  Address take(std::uint64_t bytes);
  void give(Address address, std::uint64_t bytes);
  std::uint64_t size() const {
    std::uint64_t sum = 0;
    for (const Piece& piece : pieces_) sum += piece.highest;
    return sum;
  }

 private:
  struct Hole {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };
  struct Piece {
    std::vector<Hole> holes;  // The last one is the end that was never used.
    std::uint64_t highest = 0;
  };
  struct Place {
    std::uint32_t piece = 0;
    std::size_t hole = 0;
  };

  bool find_hole(std::uint64_t bytes, Place& place) const;
  bool find_end(std::uint64_t bytes, Place& place) const;

  static constexpr std::size_t kMostPieces = 16;
  BufferTraits traits_;
  std::vector<Piece> pieces_;
};

bool Buffer::find_hole(std::uint64_t bytes, Place& place) const {
  bool found = false;
  for (std::uint32_t p = 0; p < pieces_.size(); ++p) {
    const std::vector<Hole>& holes = pieces_[p].holes;
    std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
    for (std::size_t i = 0; i + 1 < holes.size(); ++i) {
      if (holes[i].bytes < bytes || holes[i].bytes > best) continue;
      best = holes[i].bytes;
      place = {p, i};
      found = true;
    }
  }
  return found;
}

bool Buffer::find_end(std::uint64_t bytes, Place& place) const {
  bool found = false;
  std::int64_t best = std::numeric_limits<std::int64_t>::min();
  for (std::uint32_t p = 0; p < pieces_.size(); ++p) {
    const std::vector<Hole>& holes = pieces_[p].holes;
    if (holes.empty() || holes.back().bytes < bytes) continue;
    // Negative: how much the piece would have to grow.
    const auto spare = static_cast<std::int64_t>(pieces_[p].highest - holes.back().offset - bytes);
    if ((best < 0 && spare > best) || (spare >= 0 && spare < best)) {
      place = {p, holes.size() - 1};
      best = spare;
      found = true;
    }
  }
  return found;
}

Address Buffer::take(std::uint64_t bytes) {
  bytes = pad(bytes);
  Place place;
  if (!find_hole(bytes, place) && !find_end(bytes, place)) {
    const bool endless = pieces_.size() + 1 >= kMostPieces;
    const std::uint64_t room =
        endless ? std::numeric_limits<std::uint64_t>::max() / 2 : std::max(bytes, traits_.largest);
    pieces_.push_back({{{0, room}}, 0});
    place = {static_cast<std::uint32_t>(pieces_.size() - 1), 0};
  }
  Piece& piece = pieces_[place.piece];
  Hole& hole = piece.holes[place.hole];
  const Address address{place.piece, hole.offset};
  hole.offset += bytes;
  hole.bytes -= std::min(bytes, hole.bytes);
  if (hole.bytes == 0) {
    piece.holes.erase(piece.holes.begin() + static_cast<std::ptrdiff_t>(place.hole));
  }
  piece.highest = std::max(piece.highest, address.offset + bytes);
  return address;
}

// ggml_dyn_tallocr_free_bytes joins a hole with one neighbour and that with the next. Tensors
// without elements leave empty holes behind, which keep others apart and out of order.
void Buffer::give(Address address, std::uint64_t bytes) {
  bytes = pad(bytes);
  std::vector<Hole>& holes = pieces_[address.piece].holes;
  const std::uint64_t end = address.offset + bytes;
  const auto found = std::ranges::find_if(holes, [&](const Hole& hole) {
    return hole.offset + hole.bytes == address.offset || hole.offset == end;
  });
  if (found == holes.end()) {
    const auto after = std::ranges::find_if(
        holes, [&](const Hole& hole) { return hole.offset >= address.offset; });
    holes.insert(after, {address.offset, bytes});
    return;
  }
  const bool behind = found->offset + found->bytes == address.offset;
  if (!behind) found->offset = address.offset;
  found->bytes += bytes;
  const bool has_other = behind ? found + 1 != holes.end() : found != holes.begin();
  if (!has_other) return;
  const auto first = behind ? found : found - 1;
  const auto second = first + 1;
  if (first->offset + first->bytes != second->offset) return;
  first->bytes += second->bytes;
  holes.erase(second);
}

// ggml_gallocr_alloc_graph_impl
class Allocator {
 public:
  Allocator(const ComputeGraph& graph, const std::vector<BufferTraits>& devices)
      : graph_(graph), tensors_(graph.tensor_count()) {
    for (const BufferTraits& traits : devices) buffers_.emplace_back(traits);
  }

  std::vector<std::uint64_t> run(const Schedule& schedule);

 private:
  struct State {
    std::uint32_t uses = 0;
    std::uint32_t views = 0;
    std::int8_t device = 0;
    bool allocated = false;
    Address address;
  };

  State& state(TensorId id) { return tensors_[static_cast<std::size_t>(id)]; }
  bool is_external(TensorId id) const {
    const GraphTensor& tensor = graph_.at(id);
    return tensor.home >= 0 || (tensor.view_of != kNoTensor && graph_.at(tensor.view_of).home >= 0);
  }
  void count(const Step& step);
  void allocate(TensorId id, std::int8_t device);
  bool take_over(TensorId id);
  bool take_over_from(TensorId id, TensorId parent);
  void release(TensorId parent);
  void free(TensorId id);

  const ComputeGraph& graph_;
  std::vector<State> tensors_;
  std::vector<Buffer> buffers_;
};

void Allocator::count(const Step& step) {
  if (step.tensor == kNoTensor) {
    ++state(step.used).uses;
    if (graph_.at(step.used).input) allocate(step.used, step.device);
    return;
  }
  const GraphTensor& tensor = graph_.at(step.tensor);
  if (tensor.view_of != kNoTensor) ++state(tensor.view_of).views;
  if (tensor.input) allocate(step.tensor, step.device);
  for (const TensorId source : tensor.sources) {
    if (source == kNoTensor) continue;
    ++state(source).uses;
    if (graph_.at(source).input) allocate(source, step.device);
  }
}

bool same_layout(const GraphTensor& a, const GraphTensor& b) {
  return a.element == b.element && a.size == b.size && a.stride == b.stride;
}

// A view's place is never taken, although ggml provides for it.
bool Allocator::take_over_from(TensorId id, TensorId parent) {
  const GraphTensor& tensor = graph_.at(parent);
  State& from = state(parent);
  if (!from.allocated || tensor.output || !same_layout(graph_.at(id), tensor)) return false;
  if (from.uses != 1 || from.views != 0) return false;
  State& own = state(id);
  own.device = from.device;
  own.address = from.address;
  from.allocated = false;
  return true;
}

bool Allocator::take_over(TensorId id) {
  if (!can_be_in_place(graph_.at(id).op)) return false;
  for (const TensorId parent : graph_.at(id).sources) {
    if (parent != kNoTensor && take_over_from(id, parent)) return true;
  }
  return false;
}

void Allocator::allocate(TensorId id, std::int8_t device) {
  State& own = state(id);
  if (own.allocated || is_external(id) || graph_.at(id).view_of != kNoTensor) return;
  own.allocated = true;
  if (take_over(id)) return;
  own.device = device;
  own.address = buffers_[static_cast<std::size_t>(device)].take(graph_.at(id).bytes());
}

void Allocator::free(TensorId id) {
  if (graph_.at(id).output) return;
  State& own = state(id);
  buffers_[static_cast<std::size_t>(own.device)].give(own.address, graph_.at(id).bytes());
  own.allocated = false;
}

void Allocator::release(TensorId parent) {
  State& own = state(parent);
  --own.uses;
  if (own.uses != 0 || own.views != 0) return;
  const TensorId base = graph_.at(parent).view_of;
  if (base == kNoTensor) {
    if (own.allocated) free(parent);
    return;
  }
  State& owner = state(base);
  --owner.views;
  if (owner.views == 0 && owner.uses == 0 && owner.allocated) free(base);
}

std::vector<std::uint64_t> Allocator::run(const Schedule& schedule) {
  for (const Step& leaf : schedule.leaves) allocate(leaf.tensor, leaf.device);
  for (const Step& step : schedule.steps) count(step);
  for (const Step& step : schedule.steps) {
    if (step.tensor == kNoTensor) {
      allocate(step.used, step.device);
      release(step.used);
      continue;
    }
    const GraphTensor& tensor = graph_.at(step.tensor);
    for (const TensorId source : tensor.sources) {
      if (source != kNoTensor) allocate(source, step.device);
    }
    allocate(step.tensor, step.device);
    for (const TensorId source : tensor.sources) {
      if (source != kNoTensor) release(source);
    }
  }
  std::vector<std::uint64_t> sizes;
  for (const Buffer& buffer : buffers_) sizes.push_back(buffer.size());
  return sizes;
}

}  // namespace

std::vector<std::uint64_t> buffer_sizes(const ComputeGraph& graph, const Schedule& schedule,
                                        const std::vector<BufferTraits>& devices) {
  return Allocator(graph, devices).run(schedule);
}

}  // namespace yoke::planner
