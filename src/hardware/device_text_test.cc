#include "hardware/device_text.h"

#include <gtest/gtest.h>

#include "hardware/kernel_devices.h"

namespace yoke::hardware {
namespace {

TEST(ParseUeventAddress, TakesTheSlotName) {
  EXPECT_EQ(parse_uevent_address("DRIVER=amdgpu\nPCI_SLOT_NAME=0000:C5:00.0\n"), "0000:c5:00.0");
  EXPECT_EQ(parse_uevent_address("PCI_SLOT_NAME=../../../etc\n"), std::nullopt);
  EXPECT_EQ(parse_uevent_address("XPCI_SLOT_NAME=0000:c5:00.0\n"), std::nullopt);
  EXPECT_EQ(parse_uevent_address(""), std::nullopt);
}

TEST(ParseNvidiaVersion, FindsItInBothKindsOfModule) {
  EXPECT_EQ(parse_nvidia_version("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun "
                                 "May 12 19:39:15 UTC 2024\nGCC version: gcc 12.2.0\n"),
            "535.183.01");
  EXPECT_EQ(parse_nvidia_version("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
                                 "580.95.05  Release Build\n"),
            "580.95.05");
  EXPECT_EQ(parse_nvidia_version("GCC version: gcc 12.2.0\n"), std::nullopt);
  EXPECT_EQ(parse_nvidia_version("NVRM version: one .5 6. 7\n"), std::nullopt);
}

TEST(ParseNvidiaModel, IsTheNameWithoutItsPadding) {
  EXPECT_EQ(parse_nvidia_model("Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 171\n"),
            "NVIDIA GeForce RTX 4090");
  EXPECT_EQ(parse_nvidia_model("Model:\x01\x02\n"), "??");
  EXPECT_EQ(parse_nvidia_model("Model:\nIRQ: 1\n"), std::nullopt);
}

TEST(ParseMinor, TakesCardsAndNotTheirConnectors) {
  EXPECT_EQ(parse_minor("card0", "card"), 0);
  EXPECT_EQ(parse_minor("renderD128", "renderD"), 128);
  for (const char* name : {"card0-DP-1", "card", "card-1", "card1 ", "version", "cardx",
                           "card99999999999999999999", "card1048576"}) {
    EXPECT_EQ(parse_minor(name, "card"), std::nullopt) << name;
  }
}

TEST(ParseKfdNode, DecodesLocationAndIds) {
  const auto node = parse_kfd_node(
      "cpu_cores_count 0\ngfx_target_version 110501\nvendor_id 4098\ndevice_id 5510\n"
      "location_id 50432\ndomain 0\ndrm_render_minor 128\n");
  ASSERT_TRUE(node.has_value());
  EXPECT_EQ(node->gfx_target_version, 110501u);
  EXPECT_EQ(node->pci_address, "0000:c5:00.0");
  EXPECT_EQ(node->vendor_id, 4098u);
  EXPECT_EQ(node->device_id, 0x1586u);
  EXPECT_EQ(node->render_minor, 128);
}

TEST(ParseKfdNode, DecodesDeviceFunctionAndDomain) {
  const auto node = parse_kfd_node("gfx_target_version 1\nlocation_id 65535\ndomain 65536\n");
  EXPECT_EQ(node.value().pci_address, "10000:ff:1f.7");
}

TEST(ParseKfdNode, LeavesOutWhatIsOutOfRange) {
  const auto node = parse_kfd_node(
      "gfx_target_version 110501\nlocation_id 65536\nvendor_id 65536\ndevice_id -1\n"
      "drm_render_minor 4294967295\n");
  ASSERT_TRUE(node.has_value());
  EXPECT_EQ(node->pci_address, std::nullopt);
  EXPECT_EQ(node->vendor_id, std::nullopt);
  EXPECT_EQ(node->device_id, std::nullopt);
  EXPECT_EQ(node->render_minor, std::nullopt);
}

TEST(ParseKfdNode, NeedsAVersion) {
  EXPECT_EQ(parse_kfd_node("gfx_target_version 0\n").value().gfx_target_version, 0u);
  for (const char* text :
       {"", "gfx_target_version\n", "gfx_target_version -1\n", "gfx_target_version 0x10\n",
        "xgfx_target_version 1\n", "gfx_target_version 99999999999999999999\n"}) {
    EXPECT_FALSE(parse_kfd_node(text).has_value()) << text;
  }
}

TEST(ParseKfdBank, CountsTheFrameBufferOnly) {
  EXPECT_EQ(parse_kfd_bank("heap_type 1\nsize_in_bytes 1024\n"), 1024u);
  EXPECT_EQ(parse_kfd_bank("heap_type 2\nsize_in_bytes 2048\n"), 2048u);
  EXPECT_EQ(parse_kfd_bank("heap_type 0\nsize_in_bytes 4096\n"), 0u);
  EXPECT_EQ(parse_kfd_bank("heap_type 1\n"), std::nullopt);
  EXPECT_EQ(parse_kfd_bank("heap_type 1\nsize_in_bytes 18446744073709551615\n"), std::nullopt);
}

TEST(GfxOfTargetVersion, WritesMinorAndStepInHexadecimal) {
  EXPECT_EQ(gfx_of_target_version(110501), "gfx1151");
  EXPECT_EQ(gfx_of_target_version(90010), "gfx90a");
  EXPECT_EQ(gfx_of_target_version(90012), "gfx90c");
  EXPECT_EQ(gfx_of_target_version(90402), "gfx942");
  EXPECT_EQ(gfx_of_target_version(90500), "gfx950");
  EXPECT_EQ(gfx_of_target_version(120001), "gfx1201");
  EXPECT_EQ(gfx_of_target_version(80003), "gfx803");
}

TEST(GfxOfTargetVersion, IsEmptyForWhatIsNoVersion) {
  for (const std::uint64_t version : {std::uint64_t{0}, std::uint64_t{9999}, std::uint64_t{111600},
                                      std::uint64_t{110016}, std::uint64_t{1000000}, UINT64_MAX}) {
    EXPECT_EQ(gfx_of_target_version(version), "") << version;
  }
}

}  // namespace
}  // namespace yoke::hardware
