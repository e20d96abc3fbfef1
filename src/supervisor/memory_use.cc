#include "supervisor/memory_use.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <fcntl.h>
#include <map>
#include <set>
#include <string_view>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "base/unique_fd.h"
#include "io/sleep.h"
#include "supervisor/process_tree.h"

namespace yoke::supervisor {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Bytes = std::uint64_t;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxProcesses = 100'000;
constexpr std::size_t kMaxDescriptors = 4096;  // Of a process.
constexpr std::size_t kMaxFileBytes = 16 * 1024;
constexpr Bytes kKiB = 1024;

constexpr auto kReturnLimit = 2s;
constexpr auto kPollInterval = 20ms;
// So long without a change means that nothing more comes; longer where more is expected.
constexpr auto kQuiet = 100ms;
constexpr auto kQuietBeforeGoal = 500ms;

// Files of the kernel

// Empty if it can't be read, as when the process has ended.
std::string read_file(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return {};
  std::string text(kMaxFileBytes, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = ::read(file.get(), text.data() + size, text.size() - size);
    if (n <= 0) break;
    size += static_cast<std::size_t>(n);
  }
  text.resize(size);
  return text;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\n";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// The number that `text` begins with; what follows it goes into `rest`.
std::optional<Bytes> number_of(std::string_view text, std::string_view* rest = nullptr) {
  Bytes number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const auto used = static_cast<std::size_t>(end - text.data());
  if (rest != nullptr) *rest = trimmed(text.substr(used));
  return number;
}

// "12 kB", "12 KiB", "3 MiB", "4096".
Bytes size_of(std::string_view text) {
  std::string_view unit;
  const Bytes number = number_of(text, &unit).value_or(0);
  Bytes factor = 1;
  if (unit == "kB" || unit == "KiB") factor = kKiB;
  if (unit == "MiB") factor = kKiB * kKiB;
  constexpr Bytes kMost = Bytes{1} << 50;
  return std::min(number, kMost / factor) * factor;
}

// Calls `visit` with the name and the value of every line "name: value".
template <class Visit>
void for_each_field(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    visit(line.substr(0, colon), trimmed(line.substr(colon + 1)));
  }
}

// The numbers among the names in a directory, `most` at most.
std::vector<pid_t> numbers_in(const fs::path& directory, std::size_t most) {
  std::vector<pid_t> numbers;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator() && numbers.size() < most;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::string_view rest;
    const auto number = number_of(name, &rest);
    if (number && rest.empty()) numbers.push_back(static_cast<pid_t>(*number));
  }
  return numbers;
}

// The process and what descends from it; empty if it is gone.
std::vector<pid_t> family_of(pid_t process, const fs::path& proc) {
  std::vector<ProcessInfo> all;
  bool lives = false;
  for (const pid_t pid : numbers_in(proc, kMaxProcesses)) {
    const auto info = parse_stat(read_file(proc / std::to_string(pid) / "stat"));
    if (!info) continue;
    lives = lives || info->pid == process;
    all.push_back(*info);
  }
  std::vector<pid_t> family;
  if (lives) family.push_back(process);
  for (const ProcessInfo& info : descendants(process, all)) family.push_back(info.pid);
  return family;
}

// Memory of the host

void add_host_memory(const fs::path& process, MemoryUse& use) {
  Bytes pss = 0;
  Bytes files = 0;
  for_each_field(read_file(process / "smaps_rollup"),
                 [&](std::string_view name, std::string_view value) {
                   if (name == "Pss") pss = size_of(value);
                   if (name == "Pss_File") files = size_of(value);
                 });
  if (pss == 0) {  // Another user's, or an old kernel: pages, of which so many are of files.
    const std::string statm = read_file(process / "statm");
    std::string_view rest;
    number_of(statm, &rest);
    const auto page = static_cast<Bytes>(::sysconf(_SC_PAGESIZE));
    pss = number_of(rest, &rest).value_or(0) * page;
    files = number_of(rest).value_or(0) * page;
  }
  use.host += pss;
  use.kept += pss - std::min(files, pss);
}

// Memory of GPUs

// What one open file of a GPU's driver says (the kernel's drm-usage-stats).
struct DrmClient {
  std::string device;
  std::string id;
  std::map<std::string, Bytes, std::less<>> regions;  // "vram", "gtt"; what is resident.
};

std::optional<DrmClient> parse_fdinfo(std::string_view text) {
  constexpr std::string_view kResident = "drm-resident-";
  constexpr std::string_view kMemory = "drm-memory-";  // The same, of older drivers.
  DrmClient client;
  for_each_field(text, [&](std::string_view name, std::string_view value) {
    if (name == "drm-pdev") client.device = value;
    if (name == "drm-client-id") client.id = value;
    if (name.starts_with(kResident)) {
      client.regions.insert_or_assign(std::string(name.substr(kResident.size())), size_of(value));
    } else if (name.starts_with(kMemory)) {
      client.regions.try_emplace(std::string(name.substr(kMemory.size())), size_of(value));
    }
  });
  if (client.device.empty() || client.id.empty() || client.regions.empty()) return std::nullopt;
  return client;
}

void add_client(const DrmClient& client, MemoryUse& use) {
  auto gpu = std::ranges::find(use.gpus, client.device, &GpuUse::device);
  if (gpu == use.gpus.end()) gpu = use.gpus.insert(gpu, GpuUse{.device = client.device});
  for (const auto& [region, bytes] : client.regions) {
    if (region.starts_with("vram") || region.starts_with("local")) gpu->own += bytes;
    if (region.starts_with("gtt") || region.starts_with("system") || region == "cpu") {
      gpu->shared += bytes;
    }
  }
}

// The memory of a client is that of all its descriptors, in whichever process they are.
using Clients = std::set<std::pair<std::string, std::string>>;

void add_gpu_memory(const fs::path& process, Clients& seen, MemoryUse& use) {
  const fs::path directory = process / "fdinfo";
  for (const pid_t descriptor : numbers_in(directory, kMaxDescriptors)) {
    const auto client = parse_fdinfo(read_file(directory / std::to_string(descriptor)));
    if (client && seen.emplace(client->device, client->id).second) add_client(*client, use);
  }
}

// What all processes have of a GPU, by amdgpu's counters.
std::optional<Bytes> used_by_all(const std::string& device, const fs::path& root) {
  const fs::path directory = root / "sys/bus/pci/devices" / device;
  std::optional<Bytes> sum;
  for (const char* counter : {"mem_info_vram_used", "mem_info_gtt_used"}) {
    const auto bytes = number_of(read_file(directory / counter));
    if (bytes) sum = sum.value_or(0) + *bytes;
  }
  return sum;
}

// Coming back

// What a counter has to fall to; none: nobody knows.
struct Awaited {
  std::string device;
  std::optional<Bytes> goal;
  Bytes lowest = 0;
};

std::vector<Awaited> awaited_of(const hardware::Machine& machine,
                                const std::optional<MemoryUse>& last, const fs::path& root) {
  std::vector<Awaited> awaited;
  for (const hardware::Device& device : machine.devices) {
    const auto used = used_by_all(device.id, root);
    if (!used) continue;
    Awaited made{.device = device.id, .goal = {}, .lowest = *used};
    if (last) {
      const auto held = std::ranges::find(last->gpus, device.id, &GpuUse::device);
      if (held == last->gpus.end() || !held->by_all) continue;
      // Drivers keep a little for later.
      const Bytes expected = (held->own + held->shared) / 10 * 9;
      made.goal = *held->by_all - std::min(*held->by_all, expected);
    }
    awaited.push_back(std::move(made));
  }
  return awaited;
}

}  // namespace

std::uint64_t MemoryUse::total() const {
  Bytes sum = host;
  for (const GpuUse& gpu : gpus) sum += gpu.own + gpu.shared;
  return sum;
}

MemoryUse memory_use(pid_t process, const fs::path& root) {
  MemoryUse use;
  Clients seen;
  const fs::path proc = root / "proc";
  for (const pid_t pid : family_of(process, proc)) {
    const fs::path directory = proc / std::to_string(pid);
    add_host_memory(directory, use);
    add_gpu_memory(directory, seen, use);
  }
  std::ranges::sort(use.gpus, {}, &GpuUse::device);
  for (GpuUse& gpu : use.gpus) gpu.by_all = used_by_all(gpu.device, root);
  return use;
}

scheduler::Needs measured_needs(const MemoryUse& use, const scheduler::Needs& planned,
                                const MemoryPools& pools) {
  constexpr scheduler::PoolId kHost = 0;
  std::map<scheduler::PoolId, Bytes> measured{{kHost, use.kept}};
  for (const GpuUse& gpu : use.gpus) {
    measured[kHost] += gpu.shared;
    if (const auto pool = pools.pool_of(gpu.device)) measured[*pool] += gpu.own;
  }
  scheduler::Needs needs = planned;
  for (const auto& [pool, bytes] : measured) {
    const auto known = std::ranges::find(needs, pool, &scheduler::Need::pool);
    if (known != needs.end()) {
      known->bytes = pool == kHost ? std::max(known->bytes, bytes) : bytes;
    } else if (bytes > 0 && pools.has(pool)) {
      needs.push_back({pool, bytes});
    }
  }
  return needs;
}

io::Task<bool> memory_returned(std::string backend, const hardware::Machine& machine,
                               std::optional<MemoryUse> last, fs::path root) {
  if (backend == "cpu") co_return true;
  std::vector<Awaited> awaited = awaited_of(machine, last, root);
  const auto start = Clock::now();
  auto changed = start;
  while (true) {
    for (Awaited& gpu : awaited) {
      const Bytes used = used_by_all(gpu.device, root).value_or(0);
      if (used < gpu.lowest) changed = Clock::now();
      gpu.lowest = std::min(gpu.lowest, used);
    }
    const auto is_back = [](const Awaited& gpu) { return gpu.goal && gpu.lowest <= *gpu.goal; };
    if (std::ranges::all_of(awaited, is_back)) co_return true;
    const auto now = Clock::now();
    if (now - changed >= (last ? kQuietBeforeGoal : kQuiet)) co_return !last;
    if (now - start >= kReturnLimit) co_return false;
    auto pause = io::sleep_for(kPollInterval);
    co_await std::move(pause);
  }
}

}  // namespace yoke::supervisor
