#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "hardware/probe.h"

namespace yoke::hardware {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ObservedDevice full_device() {
  ObservedDevice device;
  device.pci_address = "0000:c5:00.0";
  device.vendor = Vendor::kAmd;
  device.pci_device_id = 0x1586;
  device.name = "AMD Radeon 8060S Graphics";
  device.gfx = "gfx1151";
  device.compute_capability = ComputeCapability{11, 5};
  device.integrated = true;
  device.driver = "amdgpu";
  device.driver_version = "6.18.9";
  device.vram_total = 536'870'912;
  device.vram_used = 1;
  device.gtt_total = 128'849'018'880;
  device.gtt_used = 2;
  device.memory_total = 3;
  device.memory_free = 0;
  device.render_minor = 128;
  device.persistence = false;
  device.vulkan = VulkanFacts{VulkanDriver::kRadv, "radv", "Mesa 25.2.1", "1.4.318", false};
  return device;
}

Observation full_observation() {
  Observation observation;
  observation.source = Source::kVulkan;
  observation.outcome = Outcome::kFound;
  observation.detail = "A \"detail\".";
  observation.version = "1.4.318";
  observation.devices = {full_device(), ObservedDevice{}};
  observation.notes = {"one", "two"};
  observation.took = std::chrono::milliseconds(42);
  return observation;
}

// The text of full_observation() with one part of it replaced.
std::string changed(std::string_view part, std::string_view replacement) {
  std::string text = to_json(full_observation());
  const std::size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part << " in " << text;
  return text.replace(at, part.size(), replacement);
}

void expect_invalid(std::string_view text) {
  const auto parsed = parse_observation(text);
  ASSERT_FALSE(parsed) << text.substr(0, 2000);
  EXPECT_EQ(parsed.error().code, kInvalidJson);
}

TEST(ObservationJson, EveryFieldComesBack) {
  const auto parsed = parse_observation(to_json(full_observation()));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->source, Source::kVulkan);
  EXPECT_EQ(parsed->outcome, Outcome::kFound);
  EXPECT_EQ(parsed->detail, "A \"detail\".");
  EXPECT_EQ(parsed->version, "1.4.318");
  EXPECT_EQ(parsed->notes, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(parsed->took, std::chrono::milliseconds(42));
  ASSERT_EQ(parsed->devices.size(), 2u);

  const auto& device = parsed->devices[0];
  EXPECT_EQ(device.pci_address, "0000:c5:00.0");
  EXPECT_EQ(device.vendor, Vendor::kAmd);
  EXPECT_EQ(device.pci_device_id, 0x1586u);
  EXPECT_EQ(device.name, "AMD Radeon 8060S Graphics");
  EXPECT_EQ(device.gfx, "gfx1151");
  EXPECT_EQ(device.compute_capability, (ComputeCapability{11, 5}));
  EXPECT_EQ(device.integrated, true);
  EXPECT_EQ(device.driver, "amdgpu");
  EXPECT_EQ(device.driver_version, "6.18.9");
  EXPECT_EQ(device.vram_total, 536'870'912u);
  EXPECT_EQ(device.vram_used, 1u);
  EXPECT_EQ(device.gtt_total, 128'849'018'880u);
  EXPECT_EQ(device.gtt_used, 2u);
  EXPECT_EQ(device.memory_total, 3u);
  EXPECT_EQ(device.memory_free, 0u);
  EXPECT_EQ(device.render_minor, 128);
  EXPECT_EQ(device.persistence, false);
  ASSERT_TRUE(device.vulkan);
  EXPECT_EQ(device.vulkan->driver, VulkanDriver::kRadv);
  EXPECT_EQ(device.vulkan->driver_name, "radv");
  EXPECT_EQ(device.vulkan->driver_info, "Mesa 25.2.1");
  EXPECT_EQ(device.vulkan->api_version, "1.4.318");
  EXPECT_FALSE(device.vulkan->software);

  EXPECT_EQ(to_json(*parsed), to_json(full_observation()));
}

TEST(ObservationJson, WhatIsNotKnownStaysAbsent) {
  const auto parsed = parse_observation(to_json(full_observation()));
  ASSERT_TRUE(parsed);
  const auto& device = parsed->devices.at(1);
  EXPECT_FALSE(device.pci_address || device.vendor || device.name || device.integrated ||
               device.vram_total || device.render_minor || device.persistence || device.vulkan);
}

TEST(ObservationJson, EveryDriverAndOutcomeComesBack) {
  for (const auto driver :
       {VulkanDriver::kRadv, VulkanDriver::kAmdvlk, VulkanDriver::kAmdPro, VulkanDriver::kNvidia,
        VulkanDriver::kNvk, VulkanDriver::kAnv, VulkanDriver::kLavapipe, VulkanDriver::kOther}) {
    for (const auto outcome :
         {Outcome::kFound, Outcome::kNoDevices, Outcome::kAbsent, Outcome::kFailed}) {
      auto observation = full_observation();
      observation.outcome = outcome;
      observation.devices[0].vulkan->driver = driver;
      const auto parsed = parse_observation(to_json(observation));
      ASSERT_TRUE(parsed);
      EXPECT_EQ(parsed->outcome, outcome);
      EXPECT_EQ(parsed->devices[0].vulkan->driver, driver);
    }
  }
}

TEST(ObservationJson, ForeignTextIsMadePrintableAndShort) {
  auto observation = full_observation();
  observation.devices[0].name = std::string("GPU\x01\n\x1b[31m\xff\xc0 one") + '\0' + "x";
  observation.detail = std::string(5000, 'd');
  const auto parsed = parse_observation(to_json(observation));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->devices[0].name, "GPU???[31m?? one?x");
  EXPECT_EQ(parsed->detail, std::string(1024, 'd'));
}

TEST(ObservationJson, ControlCharactersOfTheChildAreReplacedToo) {
  const auto parsed = parse_observation(changed("radv", "ra\\u001b\\u0007v"));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->devices[0].vulkan->driver_name, "ra??v");
}

TEST(ObservationJson, SizesBeyondAllMemoryAreNotKnown) {
  auto observation = full_observation();
  observation.devices[0].vram_total = std::numeric_limits<std::uint64_t>::max();
  observation.devices[0].gtt_total = std::numeric_limits<std::int64_t>::max();
  const auto parsed = parse_observation(to_json(observation));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_FALSE(parsed->devices[0].vram_total);
  EXPECT_EQ(parsed->devices[0].gtt_total, std::numeric_limits<std::int64_t>::max());
}

TEST(ObservationJson, NegativeNumbersAreNotKnown) {
  auto observation = full_observation();
  observation.devices[0].render_minor = -1;
  observation.devices[0].compute_capability = ComputeCapability{8, -1};
  const auto parsed = parse_observation(to_json(observation));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_FALSE(parsed->devices[0].render_minor);
  EXPECT_FALSE(parsed->devices[0].compute_capability);
}

TEST(ObservationJson, CountsAreCut) {
  auto observation = full_observation();
  observation.devices.assign(1000, ObservedDevice{});
  observation.notes.assign(1000, "n");
  const auto parsed = parse_observation(to_json(observation));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->devices.size(), 256u);
  EXPECT_EQ(parsed->notes.size(), 256u);
}

TEST(ObservationJson, AnythingElseIsRefused) {
  for (const char* const text : {"", "{", "[]", "null", "\"text\"", "{}", "{\"source\":\"nvml\"}",
                                 "\xff\xfe", "{\"source\":\"nvml\",\"outcome\":\"found\"}"}) {
    expect_invalid(text);
  }
  expect_invalid(changed("\"vulkan\",\"outcome\"", "\"torch\",\"outcome\""));
  expect_invalid(changed("\"found\"", "\"lost\""));
  expect_invalid(changed("\"AMD\"", "\"3dfx\""));
  expect_invalid(changed("\"RADV\"", "7"));
  expect_invalid(changed("42", "-42"));
  expect_invalid(changed("128849018880", "-1"));
  expect_invalid(changed("128849018880", "1e99"));
  expect_invalid(changed("128849018880", "18446744073709551615"));
  expect_invalid(changed("5510", "4294967296"));
  expect_invalid(changed(":128,", ":2147483648,"));
  expect_invalid(changed("\"integrated\":true", "\"integrated\":1"));
  expect_invalid(changed("[\"one\",\"two\"]", "\"one\""));
  expect_invalid(changed("[\"one\",\"two\"]", "[\"one\",2]"));
  expect_invalid(changed(",{}", ",7"));
  expect_invalid(changed("\"major\":11", "\"mayor\":11"));
}

TEST(ObservationJson, SizeIsBounded) {
  expect_invalid(changed("radv", std::string(1025, 'r')));
  expect_invalid(changed("\"one\"", '"' + std::string(1025, 'r') + '"'));
  expect_invalid(to_json(full_observation()) + std::string(1 << 20, ' '));
  std::string many = "{}";
  for (int i = 0; i < 300; ++i) many += ",{}";
  expect_invalid(changed(",{}", "," + many));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += '[';
  expect_invalid(deep);
}

TEST(ObservationJson, CutShortAnywhereItIsRefused) {
  const std::string text = to_json(full_observation());
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(parse_observation(text.substr(0, size))) << size;
  }
}

TEST(ObservationJson, AnyByteMayBeWrong) {
  const std::string text = to_json(full_observation());
  int refused = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char byte : {'\0', '\xff', '"', '}', '9', '-'}) {
      std::string wrong = text;
      wrong[at] = byte;
      const auto parsed = parse_observation(wrong);
      if (!parsed) {
        EXPECT_EQ(parsed.error().code, kInvalidJson);
        ++refused;
      } else {
        EXPECT_THAT(to_json(*parsed), Not(HasSubstr("\\u")));
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace yoke::hardware
