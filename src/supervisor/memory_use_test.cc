#include "supervisor/memory_use.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gguf/test_support.h"
#include "io/sleep.h"

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using scheduler::Needs;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr const char* kApu = "0000:c5:00.0";
constexpr const char* kCard = "0000:03:00.0";

// Parts of another machine's /proc and /sys.
class MemoryUseTest : public testing::Test {
 protected:
  void write(const fs::path& path, const std::string& text) const {
    fs::create_directories((root() / path).parent_path());
    std::ofstream(root() / path) << text;
  }
  void process(int pid, int parent, std::uint64_t pss_kib, std::uint64_t file_kib) const {
    write(fmt::format("proc/{}/stat", pid),
          fmt::format("{0} (a) b) S {1} {0} {0} 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {0} 9 9\n",
                      pid, parent));
    write(fmt::format("proc/{}/smaps_rollup", pid),
          fmt::format("5600-7fff ---p 00000000 00:00 0   [rollup]\nRss:  999999 kB\n"
                      "Pss:  {} kB\nPss_Anon: 12 kB\nPss_File:   {} kB\nSwapPss: 0 kB\n",
                      pss_kib, file_kib));
  }
  void descriptor(int pid, int number, const std::string& text) const {
    write(fmt::format("proc/{}/fdinfo/{}", pid, number), "pos:\t0\nflags:\t02100002\n" + text);
  }
  void counters(const std::string& device, std::uint64_t vram, std::uint64_t gtt) const {
    const std::string directory = "sys/bus/pci/devices/" + device;
    write(directory + "/mem_info_vram_used", fmt::format("{}\n", vram));
    write(directory + "/mem_info_gtt_used", fmt::format("{}\n", gtt));
  }
  const fs::path& root() const { return scratch_.path(); }

  gguf::ScratchDir scratch_;
};

std::string amdgpu(const char* device, int client, std::uint64_t vram_kib, std::uint64_t gtt_kib) {
  return fmt::format(
      "drm-driver:\tamdgpu\ndrm-client-id:\t{}\ndrm-pdev:\t{}\npasid:\t32770\n"
      "drm-memory-vram:\t{} KiB\ndrm-memory-gtt: \t{} KiB\ndrm-memory-cpu: \t0 KiB\n"
      "amd-evicted-vram:\t7 KiB\ndrm-engine-gfx:\t5 ns\n",
      client, device, vram_kib, gtt_kib);
}

// The host's memory

TEST_F(MemoryUseTest, IsOfAProcessAndAllBelow) {
  process(10, 1, 1000, 400);
  process(11, 10, 100, 0);
  process(12, 11, 10, 5);
  process(13, 1, 5000, 0);
  write("proc/meminfo", "MemTotal: 1 kB\n");
  write("proc/12x/stat", "12 (x) S 10 1 1");
  const MemoryUse use = memory_use(10, root());
  EXPECT_EQ(use.host, 1110 * 1024);
  EXPECT_EQ(use.kept, 705 * 1024);
  EXPECT_EQ(use.total(), use.host);
  EXPECT_THAT(use.gpus, IsEmpty());
  EXPECT_EQ(memory_use(13, root()).host, 5000 * 1024);
}

TEST_F(MemoryUseTest, IsNothingOfAProcessThatIsGone) {
  EXPECT_EQ(memory_use(77, root()).total(), 0);
  process(10, 1, 1000, 400);
  fs::remove(root() / "proc/10/smaps_rollup");
  EXPECT_EQ(memory_use(10, root()).host, 0);
  write("proc/10/stat", "10 (cut");
  EXPECT_EQ(memory_use(10, root()).host, 0);
}

TEST_F(MemoryUseTest, CountsPagesWhereSharedOnesCantBeTold) {
  process(10, 1, 0, 0);
  fs::remove(root() / "proc/10/smaps_rollup");
  write("proc/10/statm", "900 300 100 5 0 200 0\n");
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  EXPECT_EQ(memory_use(10, root()).host, 300 * page);
  EXPECT_EQ(memory_use(10, root()).kept, 200 * page);
}

TEST_F(MemoryUseTest, TakesNoNumberForWhatIsNone) {
  process(10, 1, 0, 0);
  write("proc/10/smaps_rollup", "Pss: many kB\nPss\n: 5 kB\nPss_File: 99999999999999999999 kB\n");
  write("proc/10/statm", "x y z");
  descriptor(10, 3, "drm-pdev:\t\ndrm-client-id:\t1\ndrm-memory-vram:\t5 KiB\n");
  descriptor(10, 4, fmt::format("drm-pdev:\t{}\ndrm-client-id:\t1\n", kCard));
  descriptor(10, 5, std::string(100'000, 'x'));
  const MemoryUse use = memory_use(10, root());
  EXPECT_EQ(use.total(), 0);
  EXPECT_THAT(use.gpus, IsEmpty());
}

// Not instrumented: a sanitizer's shadow of what is written would count too.
__attribute__((no_sanitize("thread", "address"))) void write_pages(void* memory, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 4096) static_cast<volatile char*>(memory)[i] = 1;
}

// Of a real process: what it writes to counts, what it only maps does not.
TEST(MemoryUseOfThisMachine, IsWhatAProcessAndItsChildHold) {
  constexpr std::size_t kHeld = 48 * kMiB;
  constexpr std::size_t kRounding = kMiB;  // Of shares in pages that several processes map.
  int ready[2];
  int go[2];
  ASSERT_EQ(::pipe(ready), 0);
  ASSERT_EQ(::pipe(go), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setpgid(0, 0);
    ::fork();  // Both go on.
    void* const memory = ::mmap(nullptr, 4 * kHeld, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char byte = 1;
    if (::write(ready[1], &byte, 1) != 1 || ::read(go[0], &byte, 1) != 1) ::_exit(1);
    write_pages(memory, kHeld);
    if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  ASSERT_GT(child, 0);
  char done = 0;
  for (int i = 0; i < 2; ++i) ASSERT_EQ(::read(ready[0], &done, 1), 1);
  const MemoryUse before = memory_use(child);
  ASSERT_EQ(::write(go[1], "gg", 2), 2);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(::read(ready[0], &done, 1), 1);
  const MemoryUse use = memory_use(child);
  EXPECT_GE(use.kept + kRounding, before.kept + 2 * kHeld);
  EXPECT_LT(use.kept, before.kept + 3 * kHeld);
  EXPECT_GE(use.host, use.kept);
  ::kill(-child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  for (const int end : {ready[0], ready[1], go[0], go[1]}) ::close(end);
  EXPECT_EQ(memory_use(child).total(), 0);
}

// GPUs

TEST_F(MemoryUseTest, CountsAClientOfAGpuOnce) {
  process(10, 1, 1000, 0);
  process(11, 10, 1000, 0);
  descriptor(10, 3, amdgpu(kApu, 5, 1024, 2048));
  descriptor(10, 4, amdgpu(kApu, 5, 1024, 2048));
  descriptor(11, 9, amdgpu(kApu, 5, 1024, 2048));
  descriptor(11, 10, amdgpu(kApu, 6, 0, 1024));
  descriptor(11, 11, amdgpu(kCard, 5, 4096, 0));
  counters(kCard, 8 * kMiB, kMiB);
  const MemoryUse use = memory_use(10, root());
  EXPECT_THAT(use.gpus, ElementsAre(GpuUse{kCard, 4 * kMiB, 0, 9 * kMiB},
                                    GpuUse{kApu, kMiB, 3 * kMiB, std::nullopt}));
  EXPECT_EQ(use.total(), 2000 * 1024 + 8 * kMiB);
}

TEST_F(MemoryUseTest, KnowsWhatOtherDriversCallIt) {
  process(10, 1, 0, 0);
  const auto client = [](const char* device, const char* lines) {
    return fmt::format("drm-pdev: {}\ndrm-client-id: 1\n{}", device, lines);
  };
  descriptor(10, 3,
             client("0000:01:00.0",  // xe
                    "drm-total-vram0: 9 MiB\ndrm-resident-vram0: 3 MiB\ndrm-resident-gtt: 2 MiB\n"
                    "drm-resident-system: 1 MiB\ndrm-resident-stolen: 7 MiB\n"));
  descriptor(10, 4,
             client("0000:02:00.0",  // i915
                    "drm-resident-local0: 2 MiB\ndrm-resident-system0: 4096\n"));
  descriptor(10, 5,
             client("0000:03:00.0",  // amdgpu since Linux 6.13 says both.
                    "drm-memory-vram: 5 MiB\ndrm-resident-vram: 5 MiB\n"));
  EXPECT_THAT(memory_use(10, root()).gpus, ElementsAre(GpuUse{"0000:01:00.0", 3 * kMiB, 3 * kMiB},
                                                       GpuUse{"0000:02:00.0", 2 * kMiB, 4096},
                                                       GpuUse{"0000:03:00.0", 5 * kMiB, 0}));
}

hardware::Machine machine_with(const char* id, bool unified) {
  hardware::Machine machine;
  machine.host.memory.total = 64 * kGiB;
  machine.host.memory.available = 60 * kGiB;
  hardware::Device& device = machine.devices.emplace_back();
  device.id = id;
  device.memory.unified = unified;
  device.memory.total = device.memory.free = 16 * kGiB;
  device.backends = {{hardware::Backend::kVulkan, true, ""}};
  return machine;
}

TEST(MeasuredNeeds, TakeTheGpusFigureWhereItIsKnown) {
  const MemoryPools pools(machine_with(kCard, false), {});
  MemoryUse use{.host = 900 * kMiB, .kept = 300 * kMiB};
  const Needs planned{{0, 500 * kMiB}, {1, 4 * kGiB}};
  EXPECT_EQ(measured_needs(use, planned, pools), planned);  // As on NVIDIA.
  use.gpus = {{kCard, 3 * kGiB, 100 * kMiB}};
  EXPECT_EQ(measured_needs(use, planned, pools), (Needs{{0, 500 * kMiB}, {1, 3 * kGiB}}));
  use.kept = 600 * kMiB;
  EXPECT_EQ(measured_needs(use, planned, pools), (Needs{{0, 700 * kMiB}, {1, 3 * kGiB}}));
  EXPECT_EQ(measured_needs(use, {}, pools), (Needs{{0, 700 * kMiB}, {1, 3 * kGiB}}));
  use.gpus = {{"0000:99:00.0", 3 * kGiB, 0}};
  EXPECT_EQ(measured_needs(use, planned, pools), (Needs{{0, 600 * kMiB}, {1, 4 * kGiB}}));
}

TEST(MeasuredNeeds, AreOneSumOnAnApu) {
  const MemoryPools pools(machine_with(kApu, true), {});
  MemoryUse use{.host = 900 * kMiB, .kept = 300 * kMiB};
  use.gpus = {{kApu, 512 * kMiB, 4 * kGiB}};
  EXPECT_EQ(measured_needs(use, {{0, kGiB}}, pools), (Needs{{0, 812 * kMiB + 4 * kGiB}}));
  EXPECT_EQ(measured_needs(use, {{0, 8 * kGiB}}, pools), (Needs{{0, 8 * kGiB}}));
}

// Coming back

class MemoryReturned : public MemoryUseTest {
 protected:
  struct Answer {
    bool returned = false;
    std::chrono::milliseconds after{};
  };
  static io::Task<void> ask(io::Task<bool> waiting, Answer& answer) {
    const auto start = Clock::now();
    answer.returned = co_await std::move(waiting);
    answer.after = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
  }
  static io::Task<void> act(std::function<void()> action) {
    auto pause = io::sleep_for(50ms);
    co_await std::move(pause);
    if (action) action();
  }
  // `later`: what happens after 50 ms.
  Answer wait(const std::string& backend, std::optional<MemoryUse> last,
              std::function<void()> later = {}) {
    boost::asio::io_context context;
    Answer answer;
    const auto rethrow = [](const std::exception_ptr& error) {
      if (error) std::rethrow_exception(error);
    };
    auto waiting = memory_returned(backend, machine_, std::move(last), root());
    boost::asio::co_spawn(context, ask(std::move(waiting), answer), rethrow);
    boost::asio::co_spawn(context, act(std::move(later)), rethrow);
    context.run();
    return answer;
  }
  static MemoryUse held(std::uint64_t own, std::uint64_t by_all) {
    MemoryUse use;
    use.gpus = {{kCard, own, 0, by_all}};
    return use;
  }

  hardware::Machine machine_ = machine_with(kCard, false);
};

TEST_F(MemoryReturned, IsSoAtOnceWithoutAGpu) {
  counters(kCard, 8 * kGiB, 0);
  EXPECT_TRUE(wait("cpu", held(8 * kGiB, 8 * kGiB)).returned);
  EXPECT_LT(wait("cpu", {}).after, 50ms);
  machine_.devices.clear();
  EXPECT_TRUE(wait("vulkan", {}).returned);
  EXPECT_LT(wait("vulkan", {}).after, 50ms);
}

TEST_F(MemoryReturned, IsSoAtOnceWhereNobodyCounts) {
  EXPECT_TRUE(wait("cuda", {}).returned);
  EXPECT_TRUE(wait("cuda", held(8 * kGiB, 8 * kGiB)).returned);
  counters(kCard, 8 * kGiB, 0);
  EXPECT_TRUE(wait("rocm", MemoryUse{}).returned);
  EXPECT_LT(wait("rocm", MemoryUse{}).after, 50ms);
}

TEST_F(MemoryReturned, IsSoWhenTheCounterHasFallen) {
  counters(kCard, 9 * kGiB, kMiB);
  const Answer late = wait("rocm", held(6 * kGiB, 9 * kGiB),
                           [this] { counters(kCard, 3 * kGiB + 100 * kMiB, kMiB); });
  EXPECT_TRUE(late.returned);
  EXPECT_GE(late.after, 50ms);
  EXPECT_LT(late.after, 450ms);
  // It had fallen before anybody asked.
  const Answer soon = wait("rocm", held(6 * kGiB, 9 * kGiB));
  EXPECT_TRUE(soon.returned);
  EXPECT_LT(soon.after, 50ms);
}

TEST_F(MemoryReturned, WaitsUntilTheCounterRests) {
  counters(kCard, 9 * kGiB, kMiB);
  const Answer answer = wait("rocm", {}, [this] { counters(kCard, 3 * kGiB, kMiB); });
  EXPECT_TRUE(answer.returned);
  EXPECT_GE(answer.after, 140ms);
  EXPECT_LT(answer.after, 1s);
}

TEST_F(MemoryReturned, GivesUpOnWhatStays) {
  counters(kCard, 9 * kGiB, kMiB);
  const Answer answer = wait("rocm", held(6 * kGiB, 9 * kGiB));
  EXPECT_FALSE(answer.returned);
  EXPECT_GE(answer.after, 400ms);
  EXPECT_LT(answer.after, 2s);
}

}  // namespace
}  // namespace yoke::supervisor
