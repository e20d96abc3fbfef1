#include "engines/backend_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

using hardware::Backend;
using hardware::Device;
using hardware::Machine;
using hardware::Source;
using hardware::Vendor;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::Not;
using testing::Pair;
using testing::UnorderedElementsAre;

Device gpu(const std::string& id, Vendor vendor = Vendor::kAmd, bool rocm = true) {
  Device device;
  device.id = id;
  device.vendor = vendor;
  device.gfx = hardware::Fact<std::string>{"gfx1151"};
  device.backends = {{Backend::kVulkan, true, ""}, {Backend::kRocm, rocm, ""}};
  return device;
}

Machine machine(std::vector<Device> devices) {
  Machine made;
  made.devices = std::move(devices);
  return made;
}

void observe(Machine& machine, Source source, const std::vector<std::string>& addresses) {
  hardware::Observation seen;
  seen.source = source;
  seen.outcome = hardware::Outcome::kFound;
  for (const std::string& address : addresses) {
    seen.devices.emplace_back();
    seen.devices.back().pci_address = address;
  }
  machine.observations.push_back(std::move(seen));
}

class Environment : public testing::Test {
 protected:
  BackendEnvironment vulkan(const Machine& machine,
                            const config::EnginesConfig& engines = {}) const {
    return backend_environment("vulkan", &machine, engines, root_.path());
  }
  BackendEnvironment rocm(const Machine& machine, const config::EnginesConfig& engines = {}) const {
    return backend_environment("rocm", &machine, engines, root_.path());
  }

  ScratchDir root_;
  // Nothing that is set for these tests themselves counts.
  EnvironmentGuard variables_[10] = {{"VK_DRIVER_FILES", ""},         {"VK_ICD_FILENAMES", ""},
                                     {"VK_ADD_DRIVER_FILES", ""},     {"AMD_VULKAN_ICD", ""},
                                     {"GGML_VK_VISIBLE_DEVICES", ""}, {"ROCM_PATH", ""},
                                     {"ROCR_VISIBLE_DEVICES", ""},    {"HIP_VISIBLE_DEVICES", ""},
                                     {"CUDA_VISIBLE_DEVICES", ""},    {"LD_LIBRARY_PATH", ""}};
};

using VulkanEnvironment = Environment;

TEST_F(VulkanEnvironment, IsPinnedToRadvOnAmd) {
  root_.write("usr/share/vulkan/icd.d/radeon_icd.i686.json", "{}");
  root_.write("usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "{}");
  root_.write("usr/share/vulkan/icd.d/radeon_icd.aarch64.json", "{}");
  root_.write("etc/vulkan/icd.d/amd_icd64.json", "{}");
  const std::string manifest = [] {
#if defined(__aarch64__)
    return "/usr/share/vulkan/icd.d/radeon_icd.aarch64.json";
#else
    return "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json";
#endif
  }();
  const BackendEnvironment made = vulkan(machine({gpu("a")}));
  EXPECT_THAT(made.variables, UnorderedElementsAre(Pair("AMD_VULKAN_ICD", "RADV"),
                                                   Pair("VK_DRIVER_FILES", manifest),
                                                   Pair("VK_ICD_FILENAMES", manifest)));
  EXPECT_THAT(made.notes, IsEmpty());
}

TEST_F(VulkanEnvironment, TakesTheAdministratorsManifestFirst) {
  root_.write("usr/share/vulkan/icd.d/radeon_icd.json", "{}");
  EXPECT_THAT(vulkan(machine({gpu("a")})).variables,
              Contains(Pair("VK_DRIVER_FILES", "/usr/share/vulkan/icd.d/radeon_icd.json")));
  root_.write("etc/vulkan/icd.d/radeon_icd.json", "{}");
  EXPECT_THAT(vulkan(machine({gpu("a")})).variables,
              Contains(Pair("VK_DRIVER_FILES", "/etc/vulkan/icd.d/radeon_icd.json")));
}

TEST_F(VulkanEnvironment, WithoutRadvSaysSo) {
  const BackendEnvironment made = vulkan(machine({gpu("a")}));
  EXPECT_THAT(made.variables, ElementsAre(Pair("AMD_VULKAN_ICD", "RADV")));
  EXPECT_THAT(made.notes, ElementsAre(HasSubstr("RADV")));
}

TEST_F(VulkanEnvironment, LeavesTheUsersDriversAlone) {
  root_.write("etc/vulkan/icd.d/radeon_icd.json", "{}");
  for (const char* name : {"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"}) {
    const EnvironmentGuard own(name, "/own.json");
    const BackendEnvironment made = vulkan(machine({gpu("a")}));
    EXPECT_THAT(made.variables, ElementsAre(Pair("AMD_VULKAN_ICD", "RADV"))) << name;
    EXPECT_THAT(made.notes, IsEmpty());
  }
  const EnvironmentGuard own("AMD_VULKAN_ICD", "AMDVLK");
  EXPECT_THAT(vulkan(machine({gpu("a")})).variables, Not(Contains(Key("AMD_VULKAN_ICD"))));
}

TEST_F(VulkanEnvironment, HidesNoOtherVendorsGpu) {
  root_.write("etc/vulkan/icd.d/radeon_icd.json", "{}");
  EXPECT_THAT(vulkan(machine({gpu("a"), gpu("b", Vendor::kNvidia)})).variables,
              ElementsAre(Pair("AMD_VULKAN_ICD", "RADV")));
  EXPECT_THAT(vulkan(machine({gpu("b", Vendor::kNvidia)})).variables, IsEmpty());
}

TEST_F(VulkanEnvironment, NamesASoftwareDeviceOnlyIfAskedTo) {
  Device lavapipe = gpu("a", Vendor::kOther);
  lavapipe.software = true;
  EXPECT_THAT(vulkan(machine({lavapipe})).variables, IsEmpty());
  const config::EnginesConfig asked{.software_devices = true};
  EXPECT_THAT(vulkan(machine({lavapipe}), asked).variables,
              ElementsAre(Pair("GGML_VK_VISIBLE_DEVICES", "0")));
  EXPECT_THAT(vulkan(machine({lavapipe, gpu("b", Vendor::kIntel)}), asked).variables, IsEmpty());
}

using RocmEnvironment = Environment;

TEST_F(RocmEnvironment, NamesTheOneGpuAndRocm) {
  root_.write("opt/rocm/.info/version", "7.2.0");
  EXPECT_THAT(rocm(machine({gpu("a")})).variables,
              UnorderedElementsAre(Pair("ROCM_PATH", "/opt/rocm"), Pair("HIP_VISIBLE_DEVICES", "0"),
                                   Pair("ROCR_VISIBLE_DEVICES", "0")));
}

TEST_F(RocmEnvironment, FindsTheNewestRocm) {
  EXPECT_THAT(rocm(machine({gpu("a")})).variables, Not(Contains(Key("ROCM_PATH"))));
  root_.write("opt/rocm-7.2.4/x", "");
  root_.write("opt/rocm-7.10.0/x", "");
  root_.write("opt/rocm-6.4.1/x", "");
  root_.write("opt/rocm-notes", "a file");
  EXPECT_THAT(rocm(machine({gpu("a")})).variables, Contains(Pair("ROCM_PATH", "/opt/rocm-7.10.0")));
  const EnvironmentGuard own("ROCM_PATH", "/mine");
  EXPECT_THAT(rocm(machine({gpu("a")})).variables, Not(Contains(Key("ROCM_PATH"))));
}

TEST_F(RocmEnvironment, TheConfiguredRocmCountsAlsoForTheLinker) {
  root_.write("opt/rocm/x", "");
  const EnvironmentGuard inherited("ROCM_PATH", "/theirs");
  const EnvironmentGuard libraries("LD_LIBRARY_PATH", "/a:/b");
  EXPECT_THAT(rocm(machine({gpu("a")}), {.rocm_path = "/own/rocm"}).variables,
              AllOf(Contains(Pair("ROCM_PATH", "/own/rocm")),
                    Contains(Pair("LD_LIBRARY_PATH", "/own/rocm/lib:/a:/b"))));
}

// HIP counts only what ROCr has left, so its numbers begin at 0.
TEST_F(RocmEnvironment, LeavesOutGpusThatRocmCanNotUse) {
  Machine two = machine({gpu("a", Vendor::kAmd, false), gpu("b"), gpu("c")});
  EXPECT_THAT(rocm(two).variables, AllOf(Contains(Pair("ROCR_VISIBLE_DEVICES", "1,2")),
                                         Contains(Pair("HIP_VISIBLE_DEVICES", "0,1"))));
  observe(two, Source::kKfd, {"c", "a", "b"});
  EXPECT_THAT(rocm(two).variables, Contains(Pair("ROCR_VISIBLE_DEVICES", "0,2")));
  observe(two, Source::kHip, {"b", "c", "a"});
  EXPECT_THAT(rocm(two).variables, Contains(Pair("ROCR_VISIBLE_DEVICES", "0,1")));
}

TEST_F(RocmEnvironment, LeavesTheUsersGpusAlone) {
  for (const char* name : {"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"}) {
    const EnvironmentGuard own(name, "1");
    EXPECT_THAT(rocm(machine({gpu("a")})).variables, IsEmpty()) << name;
  }
  EXPECT_THAT(rocm(machine({gpu("a", Vendor::kAmd, false)})).variables, IsEmpty());
}

TEST_F(RocmEnvironment, CorrectsTheGfxVersionOnlyWhereItIsMistaken) {
  Device misread = gpu("a");
  misread.gfx->disagreeing = {{Source::kHip, "gfx1100"}};
  const auto corrected = Contains(Pair("HSA_OVERRIDE_GFX_VERSION", "11.5.1"));
  EXPECT_THAT(rocm(machine({misread})).variables, corrected);
  EXPECT_THAT(rocm(machine({gpu("a")})).variables, Not(Contains(Key("HSA_OVERRIDE_GFX_VERSION"))));
  // It would hold for the other GPU too.
  Device other = gpu("b");
  other.gfx->value = "gfx1201";
  EXPECT_THAT(rocm(machine({misread, other})).variables, Not(corrected));
  const EnvironmentGuard own("HSA_OVERRIDE_GFX_VERSION", "11.0.0");
  EXPECT_THAT(rocm(machine({misread})).variables, Not(corrected));
}

TEST_F(RocmEnvironment, OfOtherBackendsThereIsNone) {
  root_.write("opt/rocm/x", "");
  const Machine amd = machine({gpu("a")});
  for (const char* backend : {"cpu", "cuda", ""}) {
    EXPECT_THAT(backend_environment(backend, &amd, {}, root_.path()).variables, IsEmpty());
  }
  EXPECT_THAT(backend_environment("vulkan", nullptr, {}, root_.path()).variables, IsEmpty());
  EXPECT_THAT(backend_environment("rocm", nullptr, {}, root_.path()).variables,
              ElementsAre(Pair("ROCM_PATH", "/opt/rocm")));
}

}  // namespace
}  // namespace yoke::engines
