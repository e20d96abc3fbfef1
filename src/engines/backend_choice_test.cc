#include "engines/backend_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

using hardware::Backend;
using hardware::BackendVerdict;
using hardware::Device;
using hardware::Machine;
using hardware::Vendor;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

EngineInstall install(std::string backend) {
  return {.version = "0.5.0", .backend = std::move(backend), .dir = "/e", .server = "/e/s"};
}

Machine machine(Vendor vendor, std::vector<BackendVerdict> verdicts, bool software = false) {
  Device device;
  device.vendor = vendor;
  device.name.value = "the GPU";
  device.software = software;
  device.backends = std::move(verdicts);
  Machine result;
  result.devices.push_back(std::move(device));
  return result;
}

std::vector<std::string> backends(const BackendChoice& choice) {
  std::vector<std::string> names;
  for (const Candidate& candidate : choice.candidates) names.push_back(candidate.install.backend);
  return names;
}

const std::vector<EngineInstall> kAll{install("cpu"), install("vulkan"), install("rocm"),
                                      install("cuda")};

TEST(BackendChoice, VulkanComesFirstOnAmd) {
  const Machine amd =
      machine(Vendor::kAmd, {{Backend::kVulkan, true, ""}, {Backend::kRocm, true, ""}});
  const ScratchDir empty;
  const BackendChoice choice = choose_backends(kAll, &amd, {}, {}, empty.path());
  EXPECT_THAT(backends(choice), ElementsAre("vulkan", "rocm", "cpu"));
  EXPECT_THAT(choice.candidates[0].env, Contains(Pair("AMD_VULKAN_ICD", "RADV")));
  EXPECT_THAT(choice.candidates[0].notes, ElementsAre(HasSubstr("RADV")));
  EXPECT_THAT(choice.candidates[2].env, IsEmpty());
  ASSERT_EQ(choice.ruled_out.size(), 1u);
  EXPECT_EQ(choice.ruled_out[0].backend, "cuda");
}

TEST(BackendChoice, CudaComesFirstOnNvidia) {
  const Machine nvidia =
      machine(Vendor::kNvidia, {{Backend::kVulkan, true, ""}, {Backend::kCuda, true, ""}});
  EXPECT_THAT(backends(choose_backends(kAll, &nvidia, {}, {})),
              ElementsAre("cuda", "vulkan", "cpu"));
}

TEST(BackendChoice, SaysWhatRulesABackendOut) {
  const Machine amd = machine(Vendor::kAmd, {{Backend::kVulkan, false, "No RADV."}});
  const BackendChoice choice = choose_backends(kAll, &amd, {}, {});
  EXPECT_THAT(backends(choice), ElementsAre("cpu"));
  EXPECT_EQ(choice.ruled_out[0].why, "the GPU: No RADV.");
  const BackendChoice missing = choose_backends({install("cpu")}, &amd, {}, {});
  EXPECT_THAT(missing.ruled_out[0].why, HasSubstr("installed"));
}

TEST(BackendChoice, EmbeddingsStayOnTheCpuUnlessTheyAreMoved) {
  const Machine amd = machine(Vendor::kAmd, {{Backend::kVulkan, true, ""}});
  config::LoadOptions options;
  options.server_type = config::ServerType::kEmbedding;
  EXPECT_THAT(backends(choose_backends(kAll, &amd, {}, options)), ElementsAre("cpu"));
  EXPECT_FALSE(needs_devices(kAll, options));
  options.backends = {"vulkan"};
  EXPECT_THAT(backends(choose_backends(kAll, &amd, {}, options)), ElementsAre("vulkan"));
  EXPECT_TRUE(needs_devices(kAll, options));
}

TEST(BackendChoice, WithoutAnEngineForTheCpuEmbeddingsTakeWhatThereIs) {
  const Machine amd = machine(Vendor::kAmd, {{Backend::kVulkan, true, ""}});
  config::LoadOptions options;
  options.server_type = config::ServerType::kRerank;
  EXPECT_TRUE(needs_devices({install("vulkan")}, options));
  EXPECT_THAT(backends(choose_backends({install("vulkan")}, &amd, {}, options)),
              ElementsAre("vulkan"));
}

TEST(BackendChoice, OfEnginesForOneBackendTheFirstIsTaken) {
  std::vector<EngineInstall> installs{install("cpu"), install("cpu")};
  installs[1].server = "/usr/bin/llama-server";
  const BackendChoice choice = choose_backends(installs, nullptr, {}, {});
  ASSERT_EQ(choice.candidates.size(), 1u);
  EXPECT_EQ(choice.candidates[0].install.server, "/e/s");
}

TEST(BackendChoice, AProgramOfTheUsersGetsTheEnvironmentOfItsBackend) {
  const Machine amd = machine(Vendor::kAmd, {{Backend::kVulkan, true, ""}});
  const BackendChoice choice =
      choose_backends({install("vulkan")}, &amd, {.llama_server = "/e/s"}, {});
  ASSERT_EQ(choice.candidates.size(), 1u);
  EXPECT_THAT(choice.candidates[0].env, Contains(Pair("AMD_VULKAN_ICD", "RADV")));
}

TEST(DriverOf, NamesWhatComputesBesidesTheEngine) {
  Machine amd = machine(Vendor::kAmd, {{Backend::kVulkan, true, ""}, {Backend::kRocm, true, ""}});
  amd.host.kernel_text = "6.18.9";
  Device& gpu = amd.devices[0];
  gpu.vulkan_drivers.resize(1);
  gpu.vulkan_drivers[0].driver = hardware::VulkanDriver::kRadv;
  gpu.vulkan_drivers[0].driver_info = "Mesa 25.2.1";
  gpu.driver = hardware::Fact<std::string>{"amdgpu"};
  gpu.driver_version = hardware::Fact<std::string>{"6.12.12"};
  EXPECT_EQ(driver_of(&amd, "vulkan"), "RADV Mesa 25.2.1, Linux 6.18.9");
  EXPECT_EQ(driver_of(&amd, "rocm"), "amdgpu 6.12.12, Linux 6.18.9");
  EXPECT_EQ(driver_of(&amd, "cuda"), "Linux 6.18.9");
  EXPECT_EQ(driver_of(&amd, "cpu"), "");
  EXPECT_EQ(driver_of(nullptr, "vulkan"), "");
  EXPECT_EQ(choose_backends(kAll, &amd, {}, {}).candidates[0].driver, driver_of(&amd, "vulkan"));
  // A second card of the same kind changes nothing, and one that is not used neither.
  amd.devices.resize(3, Device(gpu));
  amd.devices[2].backends.clear();
  amd.devices[2].vulkan_drivers[0].driver_info = "Mesa 24.0.0";
  EXPECT_EQ(driver_of(&amd, "vulkan"), "RADV Mesa 25.2.1, Linux 6.18.9");
}

TEST(BackendChoice, TheUsersOrderIsKept) {
  const Machine amd = machine(Vendor::kAmd, {{Backend::kVulkan, true, ""}});
  config::LoadOptions options;
  options.backends = {"cpu", "vulkan"};
  EXPECT_THAT(backends(choose_backends(kAll, &amd, {}, options)), ElementsAre("cpu", "vulkan"));
}

TEST(BackendChoice, SoftwareDevicesAreTakenOnlyIfAsked) {
  const Machine lavapipe =
      machine(Vendor::kOther, {{Backend::kVulkan, false, "Computed by the processor."}}, true);
  EXPECT_THAT(backends(choose_backends(kAll, &lavapipe, {}, {})), ElementsAre("cpu"));
  const BackendChoice asked =
      choose_backends(kAll, &lavapipe, {.llama_server = {}, .software_devices = true}, {});
  EXPECT_THAT(backends(asked), ElementsAre("vulkan", "cpu"));
  EXPECT_THAT(asked.candidates[0].env, ElementsAre(Pair("GGML_VK_VISIBLE_DEVICES", "0")));
}

TEST(BackendChoice, AProgramOfTheUsersIsTheOnlyOne) {
  const BackendChoice choice =
      choose_backends({install("")}, nullptr, {.llama_server = "/usr/bin/llama-server"}, {});
  EXPECT_THAT(backends(choice), ElementsAre(""));
  EXPECT_THAT(choice.ruled_out, IsEmpty());
  EXPECT_FALSE(needs_devices({install("")}, {}));
  EXPECT_FALSE(needs_devices({install("cpu")}, {}));
}

}  // namespace
}  // namespace yoke::engines
