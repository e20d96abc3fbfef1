#include "cli/machine_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using hardware::Backend;
using hardware::Device;
using hardware::Fact;
using hardware::Machine;
using hardware::Observation;
using hardware::Outcome;
using hardware::Source;
using hardware::Vendor;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;

Observation observation(Source source, Outcome outcome, std::string detail = "") {
  Observation made;
  made.source = source;
  made.outcome = outcome;
  made.detail = std::move(detail);
  return made;
}

Device strix_halo() {
  Device device;
  device.id = "0000:c5:00.0";
  device.vendor = Vendor::kAmd;
  device.name = {"AMD Radeon 8060S Graphics", Source::kVulkan, {}};
  device.gfx = Fact<std::string>{"gfx1151", Source::kHip, {}};
  device.architecture = hardware::Architecture::kRdna;
  device.architecture_name = "RDNA 3.5";
  device.integrated = Fact<bool>{true, Source::kVulkan, {}};
  device.driver = Fact<std::string>{"amdgpu", Source::kDrm, {}};
  device.vulkan_drivers = {
      {hardware::VulkanDriver::kRadv, "radv", "Mesa 25.2.1", "1.4.318", false}};
  device.memory.unified = true;
  device.memory.total = 120 * kGiB + 512 * kMiB;
  device.memory.free = 110 * kGiB;
  device.memory.carve_out = 512 * kMiB;
  device.memory.gtt = 120 * kGiB;
  device.memory.vulkan_total = 120 * kGiB + 512 * kMiB;
  device.memory.rocm_total = 120 * kGiB;
  device.backends = {{Backend::kVulkan, true, ""},
                     {Backend::kRocm, false,
                      "/dev/kfd is not in this container: start it with "
                      "`--device /dev/kfd`. rocBLAS is not installed."}};
  device.vllm_supported = true;
  device.vllm_reason = "It needs ROCm 7.0.2 or newer.";
  device.seen_by = {Source::kHip, Source::kVulkan, Source::kDrm};
  return device;
}

Machine machine_with(std::vector<Device> devices) {
  Machine machine;
  machine.host.cpu.name = "AMD Ryzen AI MAX+ 395 w/ Radeon 8060S";
  machine.host.cpu.cores = 16;
  machine.host.cpu.threads = 32;
  machine.host.cpu.usable_threads = 32;
  machine.host.cpu.avx2 = true;
  machine.host.cpu.avx512 = true;
  machine.host.memory.total = 125 * kGiB;
  machine.host.memory.available = 115 * kGiB;
  machine.devices = std::move(devices);
  return machine;
}

Terminal terminal(int width) { return {.tty = true, .styled = false, .width = width}; }

TEST(MachineView, ShowsTheThreeNumbersOfAnApu) {
  const std::string text = format_machine(machine_with({strix_halo()}), terminal(80));
  EXPECT_THAT(text, StartsWith("AMD Radeon 8060S Graphics [0000:c5:00.0]\n"
                               "  Kind        RDNA 3.5, gfx1151, integrated\n"
                               "  Memory      120.5 GiB for models, 110 GiB of it free\n"));
  EXPECT_THAT(text, HasSubstr("  carve-out   512 MiB  set aside"));
  EXPECT_THAT(text, HasSubstr("  GTT         120 GiB  of the RAM"));
  EXPECT_THAT(text, HasSubstr("  RAM         125 GiB  without the carve-out; 115 GiB available"));
  EXPECT_THAT(text, HasSubstr("Vulkan can use 120.5 GiB, ROCm 120 GiB."));
  EXPECT_THAT(text, HasSubstr("  Driver      amdgpu, RADV (Mesa 25.2.1)\n"));
  EXPECT_THAT(text, HasSubstr("  Seen by     hip, vulkan, drm\n"));
  EXPECT_THAT(text, Not(HasSubstr("No GPU")));
}

TEST(MachineView, ShowsBackendsWithReasonsInColumns) {
  const std::string text = format_machine(machine_with({strix_halo()}), terminal(80));
  EXPECT_THAT(text, HasSubstr("  Backends    vulkan  yes\n"
                              "              rocm    no   /dev/kfd is not in this container: start "
                              "it with\n"
                              "                           `--device /dev/kfd`. rocBLAS is not "
                              "installed.\n"));
  EXPECT_THAT(text, HasSubstr("  vLLM        officially supported. It needs ROCm 7.0.2"));
}

TEST(MachineView, FitsTheTerminal) {
  Machine machine = machine_with({strix_halo()});
  machine.notes = {
      "A note that is much longer than the eighty columns of a terminal, which is why "
      "it has to be wrapped at a space."};
  machine.observations = {observation(Source::kHip, Outcome::kFailed,
                                      "The library did what it did for so long that the probe was "
                                      "ended after ten seconds, as every probe is.")};
  std::string_view rest;
  const std::string text = format_machine(machine, terminal(80));
  rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    EXPECT_LE(display_width(line), 80u) << line;
    rest.remove_prefix(line.size() + 1);
  }
}

TEST(MachineView, DoesNotRepeatWhatABackendSaid) {
  Machine machine = machine_with({strix_halo()});
  machine.notes = {"/dev/kfd is not in this container: start it with `--device /dev/kfd`.",
                   "Something else."};
  const std::string text = format_machine(machine, terminal(0));
  EXPECT_THAT(text, HasSubstr("\nNotes\n- Something else.\n"));
  EXPECT_EQ(text.find("/dev/kfd is not"), text.rfind("/dev/kfd is not"));
}

TEST(MachineView, SaysThatThereIsNoGpu) {
  Device software;
  software.id = "vulkan:0";
  software.name = {"llvmpipe (LLVM 15.0.6, 256 bits)", Source::kVulkan, {}};
  software.software = true;
  software.backends = {{Backend::kVulkan, false, "Not offered."}};
  const std::string text = format_machine(machine_with({software}), terminal(80));
  EXPECT_THAT(text, StartsWith("No GPU was found: models run on the processor.\n"));
  EXPECT_THAT(text, HasSubstr("  Kind        software:"));
  EXPECT_THAT(text, Not(HasSubstr("vLLM")));
}

TEST(MachineView, ShowsProcessorAndContainer) {
  Machine machine = machine_with({});
  machine.host.cpu.usable_threads = 1.5;
  machine.host.cpu.memory_bandwidth = 96.4e9;
  machine.host.container.kind = "docker";
  machine.host.memory.limit = 32 * kGiB;
  machine.host.kernel_text = "6.18.9";
  machine.host.os_name = "Debian GNU/Linux 12 (bookworm)";
  const std::string text = format_machine(machine, terminal(80));
  EXPECT_THAT(text, HasSubstr("processor, 16 cores, 32 threads, 1.5 usable\n"));
  EXPECT_THAT(text, HasSubstr("  Features    AVX2, AVX-512\n"));
  EXPECT_THAT(text, HasSubstr("  Bandwidth   96.4 GB/s measured\n"));
  EXPECT_THAT(text, HasSubstr("Debian GNU/Linux 12 (bookworm), Linux 6.18.9\n"));
  EXPECT_THAT(text, HasSubstr("  Container   docker, 1.5 of 32 threads, 32 GiB of memory\n"));
}

TEST(MachineView, ShowsWhatEachDetectorSaid) {
  Machine machine = machine_with({});
  machine.observations = {observation(Source::kAmdSmi, Outcome::kAbsent, "not there"),
                          observation(Source::kHip, Outcome::kFailed, "It crashed."),
                          observation(Source::kDrm, Outcome::kNoDevices)};
  machine.observations[1].took = std::chrono::milliseconds(120);
  const std::string text = format_machine(machine, terminal(80));
  EXPECT_THAT(text, HasSubstr("amd-smi   not installed"));
  EXPECT_THAT(text, HasSubstr("hip       failed"));
  EXPECT_THAT(text, HasSubstr("120 ms\n    It crashed.\n"));
  EXPECT_THAT(text, HasSubstr("drm       no devices"));
  EXPECT_THAT(text, Not(HasSubstr("not there")));
}

TEST(MachineView, ShowsDisagreements) {
  Device device = strix_halo();
  device.gfx->disagreeing = {{Source::kKfd, "gfx1100"}};
  device.memory_facts.vram_total =
      Fact<std::uint64_t>{512 * kMiB, Source::kDrm, {{Source::kAmdSmi, 15 * kGiB}}};
  EXPECT_THAT(format_machine(machine_with({device}), terminal(0)),
              HasSubstr("\nDisagreements\n"
                        "- 0000:c5:00.0: the gfx version is gfx1151 (hip); kfd says gfx1100.\n"
                        "- 0000:c5:00.0: VRAM is 512 MiB (drm); amd-smi says 15 GiB.\n"));
}

TEST(MachineView, LetsForeignTextNotDriveTheTerminal) {
  Machine machine = machine_with({strix_halo()});
  machine.devices[0].name.value = "Radeon\x1b[31m\nFake\x07";
  machine.host.notes = {"\x1b]0;title\x07"};
  const std::string text = format_machine(machine, terminal(80));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\x07'), std::string::npos);
  EXPECT_THAT(text, StartsWith("Radeon Fake [0000:c5:00.0]\n"));
}

}  // namespace
}  // namespace yoke::cli
