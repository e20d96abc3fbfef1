#include <algorithm>
#include <set>
#include <string>

#include <fmt/format.h>

#include "hardware/host_parts.h"
#include "hardware/host_text.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

constexpr std::string_view kCpus = "/sys/devices/system/cpu";
// 512 processors make about 800 KiB.
constexpr std::size_t kCpuinfoLimit = 8u << 20;

std::vector<int> read_list(const NotedFiles& files, const std::string& path) {
  const auto line = files.line(path);
  if (!line) return {};
  auto numbers = parse_number_list(*line);
  if (!numbers) {
    files.note(fmt::format("{} holds no list of numbers: '{}'.", path, printable(*line)));
    return {};
  }
  return *std::move(numbers);
}

// How many different contents this file has over all processors.
int count_kinds(const NotedFiles& files, const std::vector<int>& online, std::string_view file) {
  std::set<std::string> kinds;
  for (const int cpu : online) {
    auto line = files.line(fmt::format("{}/cpu{}/topology/{}", kCpus, cpu, file));
    if (!line) return 0;
    kinds.insert(*std::move(line));
  }
  return static_cast<int>(kinds.size());
}

// The processors that this process may run on, as far as they are online.
int count_allowed(const NotedFiles& files, const std::vector<int>& online, int threads) {
  const auto status = files.read("/proc/self/status");
  const auto text = status ? field(*status, "Cpus_allowed_list", ':') : std::nullopt;
  const auto allowed = text ? parse_number_list(*text) : std::nullopt;
  if (!allowed || allowed->empty()) return threads;
  if (online.empty()) return std::min(threads, static_cast<int>(allowed->size()));
  const auto both = std::ranges::count_if(
      online, [&](int cpu) { return std::ranges::binary_search(*allowed, cpu); });
  return both > 0 ? static_cast<int>(both) : threads;
}

int first_positive(std::initializer_list<int> numbers) {
  for (const int number : numbers) {
    if (number > 0) return number;
  }
  return 1;
}

}  // namespace

Cpu read_cpu(const NotedFiles& files) {
  Cpu cpu;
  const auto text = files.read("/proc/cpuinfo", kCpuinfoLimit);
  const CpuInfo info = text ? parse_cpuinfo(*text) : CpuInfo();
  if (info.name.empty()) files.note("/proc/cpuinfo does not name the processor.");
  cpu.name = info.name.empty() ? "Unknown processor" : info.name;
  cpu.avx2 = info.avx2;
  cpu.avx512 = info.avx512;
  cpu.avx512_bf16 = info.avx512_bf16;
  cpu.avx512_vnni = info.avx512_vnni;
  cpu.amx = info.amx;

  const std::vector<int> online = read_list(files, fmt::format("{}/online", kCpus));
  const int listed = static_cast<int>(online.size());
  cpu.threads = first_positive({listed, info.processors});
  cpu.cores =
      std::min(cpu.threads, first_positive({count_kinds(files, online, "core_cpus_list"),
                                            count_kinds(files, online, "thread_siblings_list"),
                                            info.cores, cpu.threads}));
  cpu.sockets = first_positive({count_kinds(files, online, "physical_package_id"), info.sockets});
  // Nodes with memory alone, as GPUs bring them, are none of the processor's.
  cpu.numa_nodes = first_positive(
      {static_cast<int>(read_list(files, "/sys/devices/system/node/has_cpu").size()),
       static_cast<int>(read_list(files, "/sys/devices/system/node/online").size())});
  cpu.usable_threads = count_allowed(files, online, cpu.threads);
  const int first = online.empty() ? 0 : online.front();
  if (const auto governor =
          files.line(fmt::format("{}/cpu{}/cpufreq/scaling_governor", kCpus, first))) {
    cpu.governor = printable(*governor);
  }
  return cpu;
}

}  // namespace yoke::hardware
