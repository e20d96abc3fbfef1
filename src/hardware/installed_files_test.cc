#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/backend_verdicts.h"
#include "hardware/test_support.h"

namespace yoke::hardware {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<Device> strix_halo() {
  Device device;
  device.vendor = Vendor::kAmd;
  device.gfx = Fact<std::string>{"gfx1151", Source::kKfd, {}};
  return {device};
}

TEST(InstalledFiles, OfNothing) {
  const FakeRoot root;
  const InstalledFiles found = read_installed_files(root.files(), strix_halo());
  EXPECT_THAT(found.vulkan_icds, IsEmpty());
  EXPECT_FALSE(found.hip_runtime);
  EXPECT_FALSE(found.rocblas);
  EXPECT_EQ(found.rocm_version, "");
  EXPECT_FALSE(found.kfd_knows_cwsr_size);
  EXPECT_FALSE(found.cwsr_disabled);
}

TEST(InstalledFiles, OfRocm) {
  FakeRoot root;
  root.write("/opt/rocm-7.0.2/lib/libamdhip64.so.7", "");
  root.write("/opt/rocm-7.0.2/lib/rocblas/library/TensileLibrary_lazy_gfx1151.dat", "");
  root.write("/opt/rocm-7.0.2/.info/version", "7.0.2-56\n");
  root.link("/opt/rocm", "rocm-7.0.2");
  const InstalledFiles found = read_installed_files(root.files(), strix_halo());
  EXPECT_TRUE(found.hip_runtime);
  EXPECT_TRUE(found.rocblas);
  EXPECT_THAT(found.rocblas_gfx, ElementsAre("gfx1151"));
  EXPECT_EQ(found.rocm_version, "7.0.2");
}

TEST(InstalledFiles, OfRocblasWithoutThisChip) {
  FakeRoot root;
  root.write("/usr/lib64/rocblas/library/TensileLibrary_lazy_gfx1100.dat", "");
  const InstalledFiles found = read_installed_files(root.files(), strix_halo());
  EXPECT_TRUE(found.rocblas);
  EXPECT_THAT(found.rocblas_gfx, IsEmpty());
}

TEST(InstalledFiles, OfDebiansRocblas) {
  FakeRoot root;
  root.write("/usr/lib/x86_64-linux-gnu/rocblas/5.5.1/library/TensileLibrary_lazy_gfx1151.dat", "");
  root.write("/usr/lib/x86_64-linux-gnu/libamdhip64.so.6", "");
  const InstalledFiles found = read_installed_files(root.files(), strix_halo());
  EXPECT_THAT(found.rocblas_gfx, ElementsAre("gfx1151"));
  EXPECT_TRUE(found.hip_runtime);
}

TEST(InstalledFiles, OfVulkan) {
  FakeRoot root;
  root.write("/etc/vulkan/icd.d/amd_icd64.json", "{}");
  root.write("/usr/share/vulkan/icd.d/radeon_icd.json", "{}");
  root.write("/usr/share/vulkan/icd.d/README", "");
  const InstalledFiles found = read_installed_files(root.files(), {});
  EXPECT_THAT(found.vulkan_icds, ElementsAre("amd_icd64.json", "radeon_icd.json"));
}

TEST(InstalledFiles, OfTheKernelsFixAndItsRemedy) {
  FakeRoot root;
  root.write("/sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 32\n");
  EXPECT_FALSE(read_installed_files(root.files(), {}).kfd_knows_cwsr_size);
  root.write("/sys/class/kfd/kfd/topology/nodes/1/properties", "simd_count 80\ncwsr_size 1024\n");
  root.write("/sys/module/amdgpu/parameters/cwsr_enable", "0\n");
  const InstalledFiles found = read_installed_files(root.files(), {});
  EXPECT_TRUE(found.kfd_knows_cwsr_size);
  EXPECT_TRUE(found.cwsr_disabled);
}

}  // namespace
}  // namespace yoke::hardware
