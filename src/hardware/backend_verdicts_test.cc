#include "hardware/backend_verdicts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::hardware {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A Strix Halo on which all is as it should be.
class BackendVerdicts : public testing::Test {
 protected:
  BackendVerdicts() {
    device_.id = "0000:c5:00.0";
    device_.vendor = Vendor::kAmd;
    device_.gfx = Fact<std::string>{"gfx1151", Source::kHip, {}};
    device_.driver = Fact<std::string>{"amdgpu", Source::kDrm, {}};
    device_.render_minor = 128;
    device_.seen_by = {Source::kHip, Source::kVulkan, Source::kDrm};
    offer(VulkanDriver::kRadv);
    host_.kernel = KernelVersion{6, 18, 9};
    installed_.vulkan_icds = {"radeon_icd.x86_64.json"};
    installed_.hip_runtime = true;
    installed_.rocblas = true;
    installed_.rocblas_gfx = {"gfx1151"};
    installed_.nodes.kfd = {"/dev/kfd", true, true, 105, "render"};
    installed_.nodes.render[128] = {"/dev/dri/renderD128", true, true, 105, "render"};
    installed_.nodes.nvidia = {"/dev/nvidiactl", true, true, 0, "root"};
    see(Source::kHip, Outcome::kFound);
    see(Source::kVulkan, Outcome::kFound);
  }

  void offer(VulkanDriver driver) {
    device_.vulkan_drivers.push_back(
        {driver, "", "", "1.3.255", driver == VulkanDriver::kLavapipe});
  }
  void see(Source source, Outcome outcome, std::string detail = "") {
    std::erase_if(observations_, [&](const Observation& old) { return old.source == source; });
    Observation observation;
    observation.source = source;
    observation.outcome = outcome;
    observation.detail = std::move(detail);
    observations_.push_back(std::move(observation));
  }
  void hide_from_hip() {
    device_.seen_by = {Source::kDrm};
    see(Source::kHip, Outcome::kNoDevices);
  }
  // A copy of another machine's files.
  void ask_nobody() {
    observations_.clear();
    device_.seen_by = {Source::kDrm};
    device_.vulkan_drivers.clear();
  }
  void make_nvidia() {
    device_ = {};
    device_.vendor = Vendor::kNvidia;
    device_.driver = Fact<std::string>{"nvidia", Source::kDrm, {}};
    device_.compute_capability = Fact<ComputeCapability>{{8, 9}, Source::kNvml, {}};
    device_.seen_by = {Source::kNvml, Source::kCuda};
    installed_.vulkan_icds = {"nvidia_icd.json"};
    see(Source::kCuda, Outcome::kFound);
  }

  BackendVerdict verdict(Backend backend) const {
    const VerdictContext context{host_, installed_, observations_, offer_software_};
    for (BackendVerdict& each : backend_verdicts(device_, context)) {
      if (each.backend == backend) return std::move(each);
    }
    ADD_FAILURE() << "no verdict about " << name_of(backend);
    return {};
  }
  void expect_usable(Backend backend, const testing::Matcher<const std::string&>& reason) const {
    const BackendVerdict found = verdict(backend);
    EXPECT_TRUE(found.usable) << found.reason;
    EXPECT_THAT(found.reason, reason);
  }
  void expect_unusable(Backend backend, const testing::Matcher<const std::string&>& reason) const {
    const BackendVerdict found = verdict(backend);
    EXPECT_FALSE(found.usable) << found.reason;
    EXPECT_THAT(found.reason, reason);
  }

  Device device_;
  Host host_;
  InstalledFiles installed_;
  std::vector<Observation> observations_;
  bool offer_software_ = false;
};

TEST_F(BackendVerdicts, AllIsWell) {
  expect_usable(Backend::kVulkan, IsEmpty());
  expect_usable(Backend::kRocm, IsEmpty());
}

TEST_F(BackendVerdicts, AmdHasNoCudaAndNvidiaNoRocm) {
  const VerdictContext context{host_, installed_, observations_, false};
  EXPECT_EQ(backend_verdicts(device_, context).size(), 2u);
  make_nvidia();
  const auto verdicts = backend_verdicts(device_, context);
  ASSERT_EQ(verdicts.size(), 2u);
  EXPECT_EQ(verdicts[1].backend, Backend::kCuda);
}

// Vulkan

TEST_F(BackendVerdicts, VulkanNeverWithAmdvlkAlone) {
  device_.vulkan_drivers.clear();
  offer(VulkanDriver::kAmdvlk);
  expect_unusable(Backend::kVulkan, AllOf(HasSubstr("No RADV."), HasSubstr("AMDVLK")));
}

TEST_F(BackendVerdicts, VulkanWarnsOfAmdvlkBesideRadv) {
  offer(VulkanDriver::kAmdvlk);
  expect_usable(Backend::kVulkan, HasSubstr("AMD_VULKAN_ICD=RADV"));
}

TEST_F(BackendVerdicts, VulkanNotWithAmdsProprietaryDriverAlone) {
  device_.vulkan_drivers.clear();
  offer(VulkanDriver::kAmdPro);
  expect_unusable(Backend::kVulkan, HasSubstr("Only AMD proprietary offers this device."));
}

TEST_F(BackendVerdicts, VulkanNeedsADriver) {
  device_.vulkan_drivers.clear();
  installed_.vulkan_icds = {"lvp_icd.x86_64.json"};
  expect_unusable(Backend::kVulkan, AllOf(HasSubstr("No RADV."), HasSubstr("mesa-vulkan-drivers")));
}

TEST_F(BackendVerdicts, VulkanNeedsTheLoader) {
  device_.vulkan_drivers.clear();
  see(Source::kVulkan, Outcome::kAbsent);
  expect_unusable(Backend::kVulkan, HasSubstr("libvulkan.so.1"));
}

TEST_F(BackendVerdicts, VulkanTellsWhyItFailed) {
  device_.vulkan_drivers.clear();
  see(Source::kVulkan, Outcome::kFailed, "The probe ended with signal 11.");
  expect_unusable(Backend::kVulkan, HasSubstr("signal 11"));
}

TEST_F(BackendVerdicts, VulkanTellsThatARadvInstalledDoesNotOfferTheDevice) {
  device_.vulkan_drivers.clear();
  expect_unusable(Backend::kVulkan, HasSubstr("does not offer"));
  installed_.nodes.render[128].accessible = false;
  expect_unusable(Backend::kVulkan, AllOf(HasSubstr("render"), Not(HasSubstr("does not offer"))));
}

TEST_F(BackendVerdicts, VulkanIsJudgedByFilesWhereNobodyWasAsked) {
  ask_nobody();
  expect_usable(Backend::kVulkan, HasSubstr("By its files"));
  installed_.vulkan_icds.push_back("amd_icd64.json");
  expect_usable(Backend::kVulkan, HasSubstr("AMDVLK"));
  installed_.vulkan_icds = {"amd_icd64.json"};
  expect_unusable(Backend::kVulkan, AllOf(HasSubstr("No RADV."), HasSubstr("AMDVLK")));
  installed_.vulkan_icds = {"radeon_icd.json"};
  installed_.nodes.render[128].present = false;
  expect_unusable(Backend::kVulkan, HasSubstr("/dev/dri/renderD128"));
}

TEST_F(BackendVerdicts, SoftwareIsOfferedOnlyWhereAskedFor) {
  device_ = {};
  device_.software = true;
  offer(VulkanDriver::kLavapipe);
  expect_unusable(Backend::kVulkan, HasSubstr("--software"));
  offer_software_ = true;
  expect_usable(Backend::kVulkan, HasSubstr("processor"));
}

// ROCm

TEST_F(BackendVerdicts, RocmNeedsKfd) {
  hide_from_hip();
  installed_.nodes.kfd.present = false;
  host_.container.kind = "docker";
  expect_unusable(Backend::kRocm, HasSubstr("--device /dev/kfd"));
}

TEST_F(BackendVerdicts, RocmNeedsPermission) {
  hide_from_hip();
  installed_.nodes.kfd.accessible = false;
  expect_unusable(Backend::kRocm, HasSubstr("usermod -aG render"));
}

TEST_F(BackendVerdicts, RocmHasKfdWhereHipWorks) {
  installed_.nodes.kfd.accessible = false;
  expect_usable(Backend::kRocm, IsEmpty());
}

TEST_F(BackendVerdicts, RocmNeedsTheRuntime) {
  see(Source::kHip, Outcome::kAbsent);
  installed_.rocblas = false;
  expect_unusable(Backend::kRocm, AllOf(HasSubstr("libamdhip64.so"), Not(HasSubstr("rocBLAS"))));
}

TEST_F(BackendVerdicts, RocmTellsWhyHipFailed) {
  device_.seen_by = {Source::kDrm};
  see(Source::kHip, Outcome::kFailed, "HIP did not start.");
  expect_unusable(Backend::kRocm, HasSubstr("HIP did not start."));
  see(Source::kHip, Outcome::kNoDevices);
  expect_unusable(Backend::kRocm, HasSubstr("does not offer"));
}

TEST_F(BackendVerdicts, RocmNeedsKernelsForTheChip) {
  installed_.rocblas_gfx = {"gfx1100"};
  expect_unusable(Backend::kRocm, HasSubstr("no kernels for gfx1151"));
  installed_.rocblas = false;
  installed_.rocblas_gfx.clear();
  expect_unusable(Backend::kRocm, HasSubstr("rocBLAS is not installed"));
}

TEST_F(BackendVerdicts, RocmNeedsANewKernelForThisGeneration) {
  host_.kernel = KernelVersion{6, 18, 3};
  expect_unusable(Backend::kRocm, AllOf(HasSubstr("6.18.3"), HasSubstr("cwsr_enable=0")));
  host_.kernel = KernelVersion{6, 18, 4};
  expect_usable(Backend::kRocm, IsEmpty());
}

TEST_F(BackendVerdicts, RocmTakesTheOtherRemediesOfAnOldKernel) {
  host_.kernel = KernelVersion{6, 17, 0};
  host_.kernel_arguments = {"quiet", "amdgpu.cwsr_enable=0"};
  expect_usable(Backend::kRocm, IsEmpty());
  host_.kernel_arguments.clear();
  installed_.cwsr_disabled = true;
  expect_usable(Backend::kRocm, IsEmpty());
  installed_.cwsr_disabled = false;
  installed_.kfd_knows_cwsr_size = true;
  expect_usable(Backend::kRocm, IsEmpty());
}

TEST_F(BackendVerdicts, RocmLeavesOtherGenerationsTheirKernel) {
  host_.kernel = KernelVersion{6, 8, 0};
  device_.gfx->value = "gfx1100";
  installed_.rocblas_gfx = {"gfx1100"};
  expect_usable(Backend::kRocm, IsEmpty());
}

TEST_F(BackendVerdicts, RocmTellsOfTheOverrideWhereTheKernelMisreadsTheChip) {
  device_.gfx->disagreeing = {{Source::kHip, "gfx1100"}};
  expect_usable(Backend::kRocm, HasSubstr("HSA_OVERRIDE_GFX_VERSION=11.5.1"));
}

TEST_F(BackendVerdicts, RocmNamesAllThatIsWrong) {
  hide_from_hip();
  installed_.nodes.kfd.present = false;
  installed_.rocblas_gfx.clear();
  host_.kernel = KernelVersion{6, 14, 0};
  expect_unusable(Backend::kRocm,
                  AllOf(HasSubstr("/dev/kfd"), HasSubstr("rocBLAS"), HasSubstr("6.14.0")));
}

TEST_F(BackendVerdicts, RocmIsJudgedByFilesWhereNobodyWasAsked) {
  ask_nobody();
  expect_usable(Backend::kRocm, HasSubstr("By its files"));
  installed_.rocblas_gfx.clear();
  expect_unusable(Backend::kRocm, HasSubstr("no kernels for gfx1151"));
  installed_.rocblas = false;
  expect_unusable(Backend::kRocm, HasSubstr("rocBLAS is not installed"));
  // A copy of text files, in which ROCm is but a version.
  installed_.hip_runtime = false;
  installed_.rocm_version = "7.0.2";
  expect_usable(Backend::kRocm, HasSubstr("By its files"));
  installed_.rocm_version = "";
  expect_unusable(Backend::kRocm, HasSubstr("libamdhip64.so"));
}

TEST_F(BackendVerdicts, RocmNeedsToKnowTheChip) {
  device_.gfx.reset();
  expect_unusable(Backend::kRocm, HasSubstr("gfx version is unknown"));
}

// CUDA

TEST_F(BackendVerdicts, CudaAllIsWell) {
  make_nvidia();
  expect_usable(Backend::kCuda, IsEmpty());
}

TEST_F(BackendVerdicts, CudaNeedsACapability) {
  make_nvidia();
  device_.compute_capability->value = {3, 5};
  expect_unusable(Backend::kCuda, HasSubstr("3.5"));
}

TEST_F(BackendVerdicts, CudaNeedsTheLibraryAndTheDriver) {
  make_nvidia();
  see(Source::kCuda, Outcome::kAbsent);
  expect_unusable(Backend::kCuda, HasSubstr("libcuda.so.1"));
  device_.driver->value = "nouveau";
  expect_unusable(Backend::kCuda, HasSubstr("nouveau"));
}

TEST_F(BackendVerdicts, CudaTellsWhyItFailed) {
  make_nvidia();
  device_.seen_by = {Source::kNvml};
  see(Source::kCuda, Outcome::kFailed, "CUDA did not start.");
  expect_unusable(Backend::kCuda, HasSubstr("CUDA did not start."));
}

TEST_F(BackendVerdicts, CudaNeedsTheDeviceNode) {
  make_nvidia();
  device_.seen_by = {Source::kDrm};
  see(Source::kCuda, Outcome::kNoDevices);
  installed_.nodes.nvidia.present = false;
  host_.container.kind = "docker";
  expect_unusable(Backend::kCuda, HasSubstr("--gpus all"));
}

TEST_F(BackendVerdicts, CudaIsJudgedByFilesWhereNobodyWasAsked) {
  make_nvidia();
  ask_nobody();
  expect_usable(Backend::kCuda, HasSubstr("By its files"));
  device_.driver.reset();
  expect_unusable(Backend::kCuda, HasSubstr("not loaded"));
}

// vLLM

TEST_F(BackendVerdicts, VllmSupportsItsOwnList) {
  EXPECT_TRUE(vllm_verdict(device_, "7.0.2").supported);
  EXPECT_TRUE(vllm_verdict(device_, "7.10.0").supported);
  EXPECT_TRUE(vllm_verdict(device_, "").supported);
  EXPECT_THAT(vllm_verdict(device_, "").reason, HasSubstr("ROCm 7.0.2"));
  const VllmVerdict old = vllm_verdict(device_, "6.4.1");
  EXPECT_FALSE(old.supported);
  EXPECT_THAT(old.reason, AllOf(HasSubstr("7.0.2"), HasSubstr("6.4.1")));
  for (const char* gfx : {"gfx1103", "gfx1030", "gfx906", "gfx1102"}) {
    device_.gfx->value = gfx;
    EXPECT_FALSE(vllm_verdict(device_, "7.2.0").supported) << gfx;
  }
  for (const char* gfx :
       {"gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1200", "gfx1201", "gfx1150"}) {
    device_.gfx->value = gfx;
    EXPECT_TRUE(vllm_verdict(device_, "7.2.0").supported) << gfx;
  }
}

TEST_F(BackendVerdicts, VllmNeedsAComputeCapability) {
  make_nvidia();
  EXPECT_TRUE(vllm_verdict(device_, "").supported);
  device_.compute_capability->value = {7, 0};
  EXPECT_TRUE(vllm_verdict(device_, "").supported);
  EXPECT_THAT(vllm_verdict(device_, "").reason, HasSubstr("7.5"));
  device_.compute_capability->value = {6, 1};
  EXPECT_FALSE(vllm_verdict(device_, "").supported);
  device_.compute_capability.reset();
  EXPECT_FALSE(vllm_verdict(device_, "").supported);
}

TEST_F(BackendVerdicts, VllmIsForGpus) {
  device_.software = true;
  EXPECT_FALSE(vllm_verdict(device_, "").supported);
}

}  // namespace
}  // namespace yoke::hardware
