#include "gateway/metrics.h"

#include <algorithm>
#include <fstream>
#include <unistd.h>

#include <fmt/format.h>

namespace yoke::gateway {
namespace {

std::string_view name_of(RouteKind kind) {
  switch (kind) {
    case RouteKind::kChat:
      return "chat_completions";
    case RouteKind::kCompletion:
      return "completions";
    case RouteKind::kEmbedding:
      return "embeddings";
    case RouteKind::kRerank:
      return "rerank";
    case RouteKind::kOther:
      return "other";
  }
  return "other";
}

// Prometheus' text format: backslash, quote and line feed are escaped in label values.
std::string label(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

void describe(std::string& out, std::string_view name, std::string_view type,
              std::string_view help) {
  fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

template <class Value>
void simple(std::string& out, std::string_view name, std::string_view type, std::string_view help,
            Value value) {
  describe(out, name, type, help);
  fmt::format_to(std::back_inserter(out), "{} {}\n", name, value);
}

// One line per model.
template <class Get>
void per_model(std::string& out, const supervisor::RouteTable& table, std::string_view name,
               std::string_view type, std::string_view help, Get get) {
  describe(out, name, type, help);
  for (const auto& route : table.routes) {
    fmt::format_to(std::back_inserter(out), "{}{{model=\"{}\"}} {}\n", name, label(route.model),
                   get(route));
  }
}

void add_models(std::string& out, const supervisor::RouteTable& table) {
  using supervisor::Route;
  describe(out, "yoke_instance_ready", "gauge", "1 if the model's engine is ready.");
  for (const auto& route : table.routes) {
    fmt::format_to(std::back_inserter(out), "yoke_instance_ready{{model=\"{}\",state=\"{}\"}} {}\n",
                   label(route.model), supervisor::name_of(route.state),
                   route.state == supervisor::InstanceState::kReady ? 1 : 0);
  }
  per_model(out, table, "yoke_instance_restarts_total", "counter",
            "Starts of the engine after a failure.", [](const Route& r) { return r.restarts; });
  per_model(out, table, "yoke_model_loads_total", "counter", "How often the model became ready.",
            [](const Route& r) { return r.loads; });
  per_model(out, table, "yoke_model_evictions_total", "counter",
            "How often another model took the model's place in memory.",
            [](const Route& r) { return r.evictions; });
  describe(
      out, "yoke_model_memory_bytes", "gauge",
      "Memory of the model: planned, and really held by its engine (0 while it is not loaded).");
  for (const auto& route : table.routes) {
    for (const auto& [kind, bytes] :
         {std::pair("planned", route.planned_bytes), std::pair("held", route.held_bytes)}) {
      fmt::format_to(std::back_inserter(out),
                     "yoke_model_memory_bytes{{model=\"{}\",kind=\"{}\"}} {}\n", label(route.model),
                     kind, bytes);
    }
  }
  per_model(out, table, "yoke_requests_active", "gauge",
            "Requests that the model answers, or that wait for it.",
            [](const Route& r) { return r.load->active_requests.load(std::memory_order_relaxed); });
}

// The second field of /proc/self/statm: resident pages.
std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

Metrics::Shard& Metrics::mine() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t index = threads.fetch_add(1, std::memory_order_relaxed) % kShards;
  return shards_[index];
}

template <class Get>
std::uint64_t Metrics::sum(Get get) const {
  std::uint64_t total = 0;
  for (const Shard& shard : shards_) total += get(shard).load(std::memory_order_relaxed);
  return total;
}

void Metrics::count_request(RouteKind kind, int status) {
  const auto index = static_cast<std::size_t>(std::clamp(status, 0, int{kStatuses} - 1));
  mine().requests[static_cast<std::size_t>(kind)][index].fetch_add(1, std::memory_order_relaxed);
}

void Metrics::count_chunk(std::size_t bytes) {
  Shard& shard = mine();
  shard.chunks.fetch_add(1, std::memory_order_relaxed);
  shard.bytes.fetch_add(bytes, std::memory_order_relaxed);
}

void Metrics::count_first_byte(std::chrono::nanoseconds after) {
  Shard& shard = mine();
  const double seconds = std::chrono::duration<double>(after).count();
  const auto bucket = std::ranges::lower_bound(kBuckets, seconds) - kBuckets.begin();
  shard.first_byte[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  shard.first_byte_ns.fetch_add(static_cast<std::uint64_t>(after.count()),
                                std::memory_order_relaxed);
}

void Metrics::count_client_gone() { mine().clients_gone.fetch_add(1, std::memory_order_relaxed); }

void Metrics::count_engine_trouble(int status) {
  if (status >= 500) mine().engine_errors.fetch_add(1, std::memory_order_relaxed);
}

void Metrics::count_survival(bool continued) {
  Shard& shard = mine();
  (continued ? shard.continued : shard.replayed).fetch_add(1, std::memory_order_relaxed);
}

void Metrics::count_cut_stream() { mine().cut_streams.fetch_add(1, std::memory_order_relaxed); }

std::string Metrics::text(const supervisor::RouteTable& table) const {
  std::string out;
  auto to = std::back_inserter(out);

  describe(out, "yoke_requests_total", "counter", "Requests answered, by route and HTTP status.");
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    for (std::size_t status = 0; status < kStatuses; ++status) {
      const auto count =
          sum([=](const Shard& s) -> const Counter& { return s.requests[kind][status]; });
      if (count == 0) continue;
      fmt::format_to(to, "yoke_requests_total{{route=\"{}\",code=\"{}\"}} {}\n",
                     name_of(static_cast<RouteKind>(kind)), status, count);
    }
  }

  describe(out, "yoke_first_byte_seconds", "histogram",
           "From handing a request to its engine to the first byte of the answer.");
  std::uint64_t below = 0;
  for (std::size_t i = 0; i <= kBuckets.size(); ++i) {
    below += sum([=](const Shard& s) -> const Counter& { return s.first_byte[i]; });
    const std::string bound = i < kBuckets.size() ? fmt::format("{}", kBuckets[i]) : "+Inf";
    fmt::format_to(to, "yoke_first_byte_seconds_bucket{{le=\"{}\"}} {}\n", bound, below);
  }
  const auto nanoseconds = sum([](const Shard& s) -> const Counter& { return s.first_byte_ns; });
  fmt::format_to(to, "yoke_first_byte_seconds_sum {}\nyoke_first_byte_seconds_count {}\n",
                 static_cast<double>(nanoseconds) / 1e9, below);

  simple(out, "yoke_relayed_chunks_total", "counter", "Pieces of answers passed on to clients.",
         sum([](const Shard& s) -> const Counter& { return s.chunks; }));
  simple(out, "yoke_relayed_bytes_total", "counter", "Bytes of answers passed on to clients.",
         sum([](const Shard& s) -> const Counter& { return s.bytes; }));
  simple(out, "yoke_clients_gone_total", "counter", "Clients that left before their answer's end.",
         sum([](const Shard& s) -> const Counter& { return s.clients_gone; }));
  simple(out, "yoke_engine_errors_total", "counter", "Failures of engines that requests met.",
         sum([](const Shard& s) -> const Counter& { return s.engine_errors; }));
  describe(out, "yoke_survived_total", "counter",
           "Failures that clients did not notice, by what became of the request.");
  fmt::format_to(to, "yoke_survived_total{{how=\"replayed\"}} {}\n",
                 sum([](const Shard& s) -> const Counter& { return s.replayed; }));
  fmt::format_to(to, "yoke_survived_total{{how=\"continued\"}} {}\n",
                 sum([](const Shard& s) -> const Counter& { return s.continued; }));
  simple(out, "yoke_cut_streams_total", "counter", "Answers that ended with an error event.",
         sum([](const Shard& s) -> const Counter& { return s.cut_streams; }));

  add_models(out, table);
  simple(out, "process_resident_memory_bytes", "gauge", "Memory of Yoke itself, without engines.",
         resident_bytes());
  return out;
}

}  // namespace yoke::gateway
