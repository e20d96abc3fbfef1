#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "hardware/detect.h"

namespace yoke::hardware {
namespace {

namespace json = boost::json;

Machine strix_halo() {
  Machine machine;
  machine.host.cpu.name = "AMD Ryzen AI MAX+ 395 w/ Radeon 8060S";
  machine.host.cpu.cores = 16;
  machine.host.memory.total = 134286626816;
  Device device;
  device.id = "0000:c5:00.0";
  device.vendor = Vendor::kAmd;
  device.name = {"AMD Radeon 8060S Graphics", Source::kVulkan, {}};
  device.gfx = Fact<std::string>{"gfx1151", Source::kHip, {{Source::kKfd, "gfx1100"}}};
  device.architecture = Architecture::kRdna;
  device.architecture_name = "RDNA 3.5";
  device.memory.unified = true;
  device.memory.total = 129385889792;
  device.memory_facts.gtt_total = Fact<std::uint64_t>{128849018880, Source::kDrm, {}};
  device.backends = {{Backend::kRocm, false, "rocBLAS is not installed."}};
  device.seen_by = {Source::kHip, Source::kVulkan};
  machine.devices.push_back(device);
  Observation observation;
  observation.source = Source::kHip;
  observation.outcome = Outcome::kFound;
  observation.took = std::chrono::milliseconds(42);
  machine.observations.push_back(observation);
  machine.notes = {"/dev/kfd is missing."};
  return machine;
}

TEST(MachineJson, HasEveryFactWithItsSource) {
  const json::value value = json::parse(to_json(strix_halo()));
  const json::value& device = value.at("devices").at(0);
  EXPECT_EQ(device.at("id"), "0000:c5:00.0");
  EXPECT_EQ(device.at("vendor"), "AMD");
  EXPECT_EQ(device.at_pointer("/name/value"), "AMD Radeon 8060S Graphics");
  EXPECT_EQ(device.at_pointer("/name/source"), "vulkan");
  EXPECT_EQ(device.at_pointer("/gfx/disagreeing/0/source"), "kfd");
  EXPECT_EQ(device.at_pointer("/gfx/disagreeing/0/value"), "gfx1100");
  EXPECT_EQ(device.at("architecture"), "RDNA");
  EXPECT_EQ(device.at_pointer("/memory/total").to_number<std::uint64_t>(), 129385889792u);
  EXPECT_EQ(device.at_pointer("/memory/gtt_total/value").to_number<std::uint64_t>(), 128849018880u);
  EXPECT_EQ(device.at_pointer("/backends/0/backend"), "rocm");
  EXPECT_EQ(device.at_pointer("/backends/0/usable"), false);
  EXPECT_EQ(device.at_pointer("/seen_by/1"), "vulkan");
  EXPECT_EQ(value.at_pointer("/host/cpu/cores"), 16);
  EXPECT_EQ(value.at_pointer("/detectors/0/source"), "hip");
  EXPECT_EQ(value.at_pointer("/detectors/0/took_ms"), 42);
  EXPECT_EQ(value.at_pointer("/notes/0"), "/dev/kfd is missing.");
}

TEST(MachineJson, HasNullForWhatIsNotKnown) {
  const json::value value = json::parse(to_json(strix_halo()));
  EXPECT_TRUE(value.at_pointer("/devices/0/compute_capability").is_null());
  EXPECT_TRUE(value.at_pointer("/devices/0/memory/vram_total").is_null());
  EXPECT_TRUE(value.at_pointer("/host/cpu/memory_bandwidth").is_null());
  EXPECT_TRUE(value.at_pointer("/host/memory/limit").is_null());
}

TEST(MachineJson, ReplacesBytesThatAreNoUtf8) {
  Machine machine = strix_halo();
  machine.devices[0].name.value = "A\xff\xc3\xa9\xc0\x80\xed\xa0\x80\xe2\x82";
  const json::value value = json::parse(to_json(machine));  // It throws at bad UTF-8.
  EXPECT_EQ(value.at_pointer("/devices/0/name/value"),
            "A\ufffd\u00e9\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd");
}

TEST(MachineJson, OfAnEmptyMachineIsComplete) {
  const json::value value = json::parse(to_json(Machine{}));
  EXPECT_TRUE(value.at("devices").as_array().empty());
  EXPECT_TRUE(value.at("detectors").as_array().empty());
}

}  // namespace
}  // namespace yoke::hardware
