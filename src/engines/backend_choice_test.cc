#include "engines/backend_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::engines {
namespace {

using hardware::Backend;
using hardware::BackendVerdict;
using hardware::Device;
using hardware::Machine;
using hardware::Vendor;
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
  const BackendChoice choice = choose_backends(kAll, &amd, {}, {});
  EXPECT_THAT(backends(choice), ElementsAre("vulkan", "rocm", "cpu"));
  EXPECT_THAT(choice.candidates[0].env, ElementsAre(Pair("AMD_VULKAN_ICD", "RADV")));
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
