// Stands in for libvulkan.so.1: a Strix Halo that RADV and AMDVLK both offer, a discrete NVIDIA
// GPU, and lavapipe, which computes on the processor.
#include <cstdint>
#include <cstring>

#include <vulkan/vulkan_core.h>

#include "behaviour.h"

namespace {

constexpr VkDeviceSize kGiB = VkDeviceSize{1} << 30;

struct Gpu {
  const char* name;
  std::uint32_t vendor_id, device_id;
  VkPhysicalDeviceType type;
  VkDriverId driver;
  const char* driver_name;
  const char* driver_info;
  bool has_address;
  std::uint32_t bus;
};

Gpu gpus[] = {
    {"AMD Radeon 8060S Graphics (RADV GFX1151)", 0x1002, 0x1586,
     VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU, VK_DRIVER_ID_MESA_RADV, "radv", "Mesa 25.2.1", true,
     0xc5},
    {"AMD Radeon 8060S Graphics", 0x1002, 0x1586, VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU,
     VK_DRIVER_ID_AMD_OPEN_SOURCE, "AMD open-source driver", "2025.Q2.1 (LLPC)", true, 0xc5},
    {"NVIDIA GeForce RTX 4090", 0x10de, 0x2684, VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU,
     VK_DRIVER_ID_NVIDIA_PROPRIETARY, "NVIDIA", "580.95.05", true, 1},
    {"llvmpipe (LLVM 19.1.7, 256 bits)", 0x10005, 0, VK_PHYSICAL_DEVICE_TYPE_CPU,
     VK_DRIVER_ID_MESA_LLVMPIPE, "llvmpipe", "Mesa 25.2.1 (LLVM 19.1.7)", false, 0},
};
constexpr std::uint32_t kGpus = 4;
bool has_properties2 = FAKE_ABI != fake::kOld;
int instance;

std::string_view mode() { return fake::mode("FAKE_VULKAN"); }

Gpu& gpu_of(VkPhysicalDevice handle) { return *reinterpret_cast<Gpu*>(handle); }

std::uint32_t api_version() {
  return FAKE_ABI == fake::kOld ? VK_MAKE_API_VERSION(0, 1, 0, 3)
                                : VK_MAKE_API_VERSION(0, 1, FAKE_ABI == fake::kNew ? 9 : 4, 318);
}

VKAPI_ATTR VkResult VKAPI_CALL enumerate_version(std::uint32_t* version) {
  *version = api_version();
  return VK_SUCCESS;
}

VkResult list_names(const char* const* names, std::uint32_t size, std::uint32_t* count,
                    VkExtensionProperties* place) {
  if (place == nullptr) {
    *count = size;
    return VK_SUCCESS;
  }
  const std::uint32_t given = *count < size ? *count : size;
  for (std::uint32_t i = 0; i < given; ++i) {
    place[i] = {};
    std::strcpy(place[i].extensionName, names[i]);
  }
  *count = given;
  return given < size ? VK_INCOMPLETE : VK_SUCCESS;
}

VKAPI_ATTR VkResult VKAPI_CALL instance_extensions(const char* /*layer*/, std::uint32_t* count,
                                                   VkExtensionProperties* place) {
  const char* const names[] = {"VK_KHR_surface", "VK_KHR_get_physical_device_properties2"};
  return list_names(names, 2, count, place);
}

VKAPI_ATTR VkResult VKAPI_CALL device_extensions(VkPhysicalDevice handle, const char* /*layer*/,
                                                 std::uint32_t* count,
                                                 VkExtensionProperties* place) {
  const char* const names[] = {"VK_KHR_driver_properties", "VK_EXT_memory_budget",
                               "VK_EXT_pci_bus_info"};
  return list_names(names, gpu_of(handle).has_address ? 3 : 1, count, place);
}

VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo* info,
                                               const VkAllocationCallbacks* /*allocator*/,
                                               VkInstance* handle) {
  fake::misbehave(mode());
  if (mode() == "error") return VK_ERROR_INITIALIZATION_FAILED;
  if (mode() == "none") return VK_ERROR_INCOMPATIBLE_DRIVER;
  for (std::uint32_t i = 0; i < info->enabledExtensionCount; ++i) {
    const std::string_view name = info->ppEnabledExtensionNames[i];
    has_properties2 |= name == "VK_KHR_get_physical_device_properties2";
  }
  *handle = reinterpret_cast<VkInstance>(&instance);
  return VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance /*instance*/,
                                            const VkAllocationCallbacks* /*allocator*/) {}

VKAPI_ATTR VkResult VKAPI_CALL enumerate_gpus(VkInstance /*instance*/, std::uint32_t* count,
                                              VkPhysicalDevice* place) {
  const std::uint32_t there = mode() == "many" ? 300 : mode() == "empty" ? 0 : kGpus;
  if (place == nullptr) {
    *count = there;
    return VK_SUCCESS;
  }
  for (std::uint32_t i = 0; i < *count; ++i) {
    place[i] = reinterpret_cast<VkPhysicalDevice>(&gpus[i % kGpus]);
  }
  return *count < there ? VK_INCOMPLETE : VK_SUCCESS;
}

VKAPI_ATTR void VKAPI_CALL get_properties(VkPhysicalDevice handle,
                                          VkPhysicalDeviceProperties* properties) {
  const Gpu& gpu = gpu_of(handle);
  *properties = {};
  properties->apiVersion = api_version();
  properties->vendorID = gpu.vendor_id;
  properties->deviceID = gpu.device_id;
  properties->deviceType = gpu.type;
  std::strcpy(properties->deviceName, gpu.name);
  if (mode() == "garbage") {
    std::memset(properties->deviceName, 0xc0, sizeof properties->deviceName);
    properties->deviceType = static_cast<VkPhysicalDeviceType>(77);
  }
}

VKAPI_ATTR void VKAPI_CALL get_properties2(VkPhysicalDevice handle,
                                           VkPhysicalDeviceProperties2* properties) {
  const Gpu& gpu = gpu_of(handle);
  get_properties(handle, &properties->properties);
  for (auto* next = static_cast<VkBaseOutStructure*>(properties->pNext); next != nullptr;
       next = next->pNext) {
    if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES) {
      auto& driver = *reinterpret_cast<VkPhysicalDeviceDriverProperties*>(next);
      driver.driverID = FAKE_ABI == fake::kNew ? static_cast<VkDriverId>(999) : gpu.driver;
      std::strcpy(driver.driverName, gpu.driver_name);
      std::strcpy(driver.driverInfo, gpu.driver_info);
      if (mode() == "garbage") std::memset(driver.driverName, 0x1b, sizeof driver.driverName);
    } else if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT) {
      auto& pci = *reinterpret_cast<VkPhysicalDevicePCIBusInfoPropertiesEXT*>(next);
      pci.pciDomain = 0;
      pci.pciBus = mode() == "garbage" ? 0xffffffff : gpu.bus;
      pci.pciDevice = 0;
      pci.pciFunction = 0;
    }
  }
}

VKAPI_ATTR void VKAPI_CALL get_memory(VkPhysicalDevice /*handle*/,
                                      VkPhysicalDeviceMemoryProperties* memory) {
  *memory = {};
  memory->memoryHeapCount = mode() == "garbage" ? 0xffffffff : 2;
  memory->memoryHeaps[0] = {24 * kGiB, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT};
  memory->memoryHeaps[1] = {60 * kGiB, 0};
}

VKAPI_ATTR void VKAPI_CALL get_memory2(VkPhysicalDevice handle,
                                       VkPhysicalDeviceMemoryProperties2* memory) {
  get_memory(handle, &memory->memoryProperties);
  auto* const next = static_cast<VkBaseOutStructure*>(memory->pNext);
  if (next == nullptr) return;
  auto& budget = *reinterpret_cast<VkPhysicalDeviceMemoryBudgetPropertiesEXT*>(next);
  budget.heapBudget[0] = 20 * kGiB;
  budget.heapUsage[0] = 1 * kGiB;
  budget.heapBudget[1] = 50 * kGiB;
  budget.heapUsage[1] = 2 * kGiB;
}

struct Entry {
  const char* name;
  PFN_vkVoidFunction function;
};

template <class Function>
PFN_vkVoidFunction erased(Function* function) {
  return reinterpret_cast<PFN_vkVoidFunction>(function);
}

}  // namespace

FAKE_EXPORT PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance /*instance*/, const char* name) {
  const std::string_view wanted = name;
  if (FAKE_ABI == fake::kOld && wanted == "vkEnumerateInstanceVersion") return nullptr;
  // A loader of Vulkan 1.0 has them under their extension's name, once it was asked for.
  if (wanted.find("Properties2") != std::string_view::npos) {
    const bool khr = wanted.ends_with("KHR");
    if (!has_properties2 || khr != (FAKE_ABI == fake::kOld)) return nullptr;
  }
  const Entry entries[] = {
      {"vkCreateInstance", erased(create_instance)},
      {"vkDestroyInstance", erased(destroy_instance)},
      {"vkEnumerateInstanceVersion", erased(enumerate_version)},
      {"vkEnumerateInstanceExtensionProperties", erased(instance_extensions)},
      {"vkEnumeratePhysicalDevices", erased(enumerate_gpus)},
      {"vkEnumerateDeviceExtensionProperties", erased(device_extensions)},
      {"vkGetPhysicalDeviceProperties", erased(get_properties)},
      {"vkGetPhysicalDeviceProperties2", erased(get_properties2)},
      {"vkGetPhysicalDeviceProperties2KHR", erased(get_properties2)},
      {"vkGetPhysicalDeviceMemoryProperties", erased(get_memory)},
      {"vkGetPhysicalDeviceMemoryProperties2", erased(get_memory2)},
      {"vkGetPhysicalDeviceMemoryProperties2KHR", erased(get_memory2)},
  };
  for (const auto& entry : entries) {
    if (wanted == entry.name) return entry.function;
  }
  return nullptr;
}
