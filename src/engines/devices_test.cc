#include "engines/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/capabilities.h"

namespace yoke::engines {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

std::vector<EngineDevice> devices_of(const std::string& lines) {
  const auto devices = parse_devices("Available devices:\n" + lines);
  EXPECT_TRUE(devices) << devices.error().text();
  return devices.value_or(std::vector<EngineDevice>{});
}

// What llama-server 0.5.0 prints with Mesa's lavapipe.
TEST(Devices, AreReadFromTheRealOutput) {
  const auto devices = parse_devices(
      "0.00.000.510 I srv  llama_server: initializing ...\n"
      "0.00.052.309 I load_backend: loaded Vulkan backend from /opt/x/libggml-vulkan.so\n"
      "Available devices:\n"
      "  Vulkan0: llvmpipe (LLVM 15.0.6, 256 bits) (24104 MiB, 22000 MiB free)\n");
  ASSERT_TRUE(devices) << devices.error().text();
  EXPECT_THAT(*devices, ElementsAre(EngineDevice{"Vulkan0", "llvmpipe (LLVM 15.0.6, 256 bits)",
                                                 24104 * kMiB, 22000 * kMiB}));
}

TEST(Devices, KeepTheirOrder) {
  const auto devices = devices_of(
      "  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23500 MiB free)\n"
      "  ROCm0: AMD Radeon Graphics (122880 MiB, 0 MiB free)\n"
      "\tRPC0:  10.0.0.2:50052  (1 MiB, 1 MiB free)\r\n");
  EXPECT_THAT(devices, ElementsAre(EngineDevice{"CUDA0", "NVIDIA GeForce RTX 4090", 24080 * kMiB,
                                                23500 * kMiB},
                                   EngineDevice{"ROCm0", "AMD Radeon Graphics", 122880 * kMiB, 0},
                                   EngineDevice{"RPC0", "10.0.0.2:50052", kMiB, kMiB}));
}

TEST(Devices, MayBeNone) {
  EXPECT_THAT(devices_of("  (none)\n"), IsEmpty());
  EXPECT_THAT(devices_of(""), IsEmpty());
}

TEST(Devices, NeedTheirHeading) {
  for (const char* const output :
       {"", "  Vulkan0: x (1 MiB, 1 MiB free)\n", "error: invalid argument: --list-devices\n"}) {
    const auto devices = parse_devices(output);
    ASSERT_FALSE(devices) << output;
    EXPECT_EQ(devices.error().code, kEngineUnusable);
    EXPECT_NE(devices.error().hint, "");
  }
}

TEST(Devices, OfAnotherFormArePassedOver) {
  for (const char* const line :
       {"Vulkan0: not indented (1 MiB, 1 MiB free)", "  Vulkan0 no colon (1 MiB, 1 MiB free)",
        "  Vulkan0: no memory", "  Vulkan0: (1 MiB, 1 MiB free)",
        "  : nameless (1 MiB, 1 MiB free)", "  Vulkan0: x (1 MiB, 1 MiB free",
        "  Vulkan0: x (1 GiB, 1 GiB free)", "  Vulkan0: x (-1 MiB, 1 MiB free)",
        "  Vulkan0: x ( MiB, 1 MiB free)", "  Vulkan0: x (1 MiB, 99999999999999999999 MiB free)",
        "  Vulkan0: x (17592186044417 MiB, 1 MiB free)"}) {
    EXPECT_THAT(devices_of(std::string(line) + "\n"), IsEmpty()) << line;
  }
  EXPECT_THAT(devices_of("  rubbish\n  Vulkan1: good (2 MiB, 1 MiB free)\n"),
              ElementsAre(EngineDevice{"Vulkan1", "good", 2 * kMiB, kMiB}));
}

TEST(Devices, AreBoundedInNumberAndLength) {
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "  Vulkan0: x (1 MiB, 1 MiB free)\n";
  EXPECT_THAT(devices_of(lines), SizeIs(64));
  EXPECT_THAT(devices_of("  V: " + std::string(1 << 20, 'x') + " (1 MiB, 1 MiB free)\n"),
              IsEmpty());
}

TEST(BackendOf, IsToldByTheNamesOfTheDevices) {
  const auto of = [](std::vector<std::string> ids) {
    std::vector<EngineDevice> devices;
    for (std::string& id : ids) devices.push_back({.id = std::move(id), .name = "x"});
    return backend_of(devices);
  };
  EXPECT_EQ(of({}), "cpu");
  EXPECT_EQ(of({"Vulkan0"}), "vulkan");
  EXPECT_EQ(of({"ROCm0", "ROCm1"}), "rocm");
  EXPECT_EQ(of({"CUDA0"}), "cuda");
  EXPECT_EQ(of({"SYCL0"}), "");
  EXPECT_EQ(of({"SYCL0", "CUDA0"}), "cuda");
}

}  // namespace
}  // namespace yoke::engines
