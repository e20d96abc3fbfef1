// The Vulkan loader, which asks every driver (ICD) that is installed. Two drivers for one GPU list
// it twice: both are reported.
#include <array>
#include <cctype>
#include <cstring>
#include <string_view>
#include <vector>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "hardware/library_probes.h"
#include "hardware/pci_address.h"

namespace yoke::hardware {
namespace {

// VkDriverId of drivers that are newer than the header that this may be built with.
constexpr std::uint32_t kMesaNvk = 24;

class Instance {
 public:
  Instance(PFN_vkGetInstanceProcAddr get, VkInstance handle) : get_(get), handle_(handle) {}
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  ~Instance() {
    if (const auto destroy = find<PFN_vkDestroyInstance>("vkDestroyInstance")) {
      destroy(handle_, nullptr);
    }
  }

  template <class Function>
  Function find(const char* name) const {
    return reinterpret_cast<Function>(get_(handle_, name));
  }
  // Under its name since 1.1 or, before, that of the extension.
  template <class Function>
  Function find(const char* name, const char* extension_name) const {
    const auto function = find<Function>(name);
    return function != nullptr ? function : find<Function>(extension_name);
  }
  VkInstance handle() const { return handle_; }

 private:
  PFN_vkGetInstanceProcAddr get_;
  VkInstance handle_;
};

struct Api {
  PFN_vkGetPhysicalDeviceProperties properties;
  PFN_vkGetPhysicalDeviceMemoryProperties memory;
  PFN_vkEnumerateDeviceExtensionProperties extensions;
  PFN_vkGetPhysicalDeviceProperties2 properties2;    // Null with Vulkan 1.0 and no extension.
  PFN_vkGetPhysicalDeviceMemoryProperties2 memory2;  // The same.
};

std::string version_text(std::uint32_t version) {
  return fmt::format("{}.{}.{}", VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version),
                     VK_API_VERSION_PATCH(version));
}

// A field of fixed size, which should end with a zero.
template <std::size_t size>
std::string text_of(const char (&field)[size]) {
  return {field, ::strnlen(field, size)};
}

bool contains(const std::vector<VkExtensionProperties>& extensions, std::string_view name) {
  return std::ranges::any_of(extensions, [name](const VkExtensionProperties& extension) {
    return text_of(extension.extensionName) == name;
  });
}

// What vkEnumerate* gives; `list` takes a count and, the second time, the place for so many.
template <class Item, class List>
std::vector<Item> enumerate(List&& list, std::uint32_t most) {
  std::uint32_t count = 0;
  if (list(&count, nullptr) != VK_SUCCESS) return {};
  count = std::min(count, most);
  std::vector<Item> items(count);
  const VkResult result = list(&count, items.data());
  if (result != VK_SUCCESS && result != VK_INCOMPLETE) return {};
  items.resize(std::min<std::size_t>(count, items.size()));
  return items;
}

VulkanDriver driver_of(std::uint32_t id) {
  switch (id) {
    case VK_DRIVER_ID_AMD_PROPRIETARY:
      return VulkanDriver::kAmdPro;
    case VK_DRIVER_ID_AMD_OPEN_SOURCE:
      return VulkanDriver::kAmdvlk;
    case VK_DRIVER_ID_MESA_RADV:
      return VulkanDriver::kRadv;
    case VK_DRIVER_ID_NVIDIA_PROPRIETARY:
      return VulkanDriver::kNvidia;
    case VK_DRIVER_ID_INTEL_OPEN_SOURCE_MESA:
      return VulkanDriver::kAnv;
    case VK_DRIVER_ID_MESA_LLVMPIPE:
      return VulkanDriver::kLavapipe;
    case kMesaNvk:
      return VulkanDriver::kNvk;
    default:
      return VulkanDriver::kOther;
  }
}

// "AMD Radeon 8060S Graphics (RADV GFX1151)": RADV adds its own name and, for newer chips, the gfx.
void split_radv_name(ObservedDevice& device) {
  constexpr std::string_view kMark = " (RADV ";
  const std::size_t at = device.name->find(kMark);
  if (at == std::string::npos) return;
  const std::string chip = device.name->substr(at + kMark.size());
  device.name->resize(at);
  if (!chip.starts_with("GFX")) return;
  std::string gfx = "gfx";
  for (const char c : chip.substr(3)) {
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) break;
    gfx += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (gfx.size() >= 6) device.gfx = gfx;
}

// On a discrete GPU what lies on it; on an integrated one all, as host memory is its own.
bool counts(const VkPhysicalDeviceProperties& properties, const VkMemoryHeap& heap) {
  return properties.deviceType != VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU ||
         (heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) != 0;
}

void read_memory(const Api& api, VkPhysicalDevice gpu, const VkPhysicalDeviceProperties& properties,
                 bool has_budget, ObservedDevice& device) {
  VkPhysicalDeviceMemoryBudgetPropertiesEXT budget{};
  budget.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT;
  VkPhysicalDeviceMemoryProperties2 memory{};
  memory.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2;
  const bool ask_budget = has_budget && api.memory2 != nullptr;
  if (ask_budget) {
    memory.pNext = &budget;
    api.memory2(gpu, &memory);
  } else {
    api.memory(gpu, &memory.memoryProperties);
  }
  const auto heaps =
      std::min<std::uint32_t>(memory.memoryProperties.memoryHeapCount, VK_MAX_MEMORY_HEAPS);
  std::uint64_t total = 0;
  std::uint64_t free = 0;
  for (std::uint32_t i = 0; i < heaps; ++i) {
    const VkMemoryHeap& heap = memory.memoryProperties.memoryHeaps[i];
    if (!counts(properties, heap)) continue;
    total += heap.size;
    free += budget.heapBudget[i] - std::min(budget.heapUsage[i], budget.heapBudget[i]);
  }
  device.memory_total = total;
  if (ask_budget) device.memory_free = free;
}

ObservedDevice read_gpu(const Api& api, VkPhysicalDevice gpu) {
  const auto extensions = enumerate<VkExtensionProperties>(
      [&](std::uint32_t* count, VkExtensionProperties* items) {
        return api.extensions(gpu, nullptr, count, items);
      },
      4096);
  VkPhysicalDeviceProperties properties{};
  api.properties(gpu, &properties);
  const bool has_pci = contains(extensions, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME);
  const bool has_driver = properties.apiVersion >= VK_API_VERSION_1_2 ||
                          contains(extensions, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME);

  VkPhysicalDeviceProperties2 more{};
  more.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
  VkPhysicalDeviceDriverProperties driver{};
  driver.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES;
  VkPhysicalDevicePCIBusInfoPropertiesEXT pci{};
  pci.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT;
  if (has_driver) more.pNext = &driver;
  if (has_pci) {
    pci.pNext = more.pNext;
    more.pNext = &pci;
  }
  if (api.properties2 != nullptr) api.properties2(gpu, &more);

  ObservedDevice device;
  device.vendor = vendor_of_pci_id(properties.vendorID);
  if (device.vendor != Vendor::kOther) device.pci_device_id = properties.deviceID;
  device.name = text_of(properties.deviceName);
  if (has_pci && api.properties2 != nullptr) {
    device.pci_address = pci_address(pci.pciDomain, pci.pciBus, pci.pciDevice, pci.pciFunction);
  }
  if (properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU) device.integrated = true;
  if (properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU) device.integrated = false;
  read_memory(api, gpu, properties, contains(extensions, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME),
              device);

  VulkanFacts facts;
  facts.driver = driver_of(static_cast<std::uint32_t>(driver.driverID));
  facts.driver_name = text_of(driver.driverName);
  facts.driver_info = text_of(driver.driverInfo);
  facts.api_version = version_text(properties.apiVersion);
  facts.software = properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
  if (facts.driver == VulkanDriver::kRadv) split_radv_name(device);
  device.vulkan = std::move(facts);
  return device;
}

// The extension that Vulkan 1.0 needs for properties2; without it the driver's name is not known.
std::vector<const char*> instance_extensions(PFN_vkGetInstanceProcAddr get) {
  const auto list = reinterpret_cast<PFN_vkEnumerateInstanceExtensionProperties>(
      get(nullptr, "vkEnumerateInstanceExtensionProperties"));
  if (list == nullptr) return {};
  const auto extensions = enumerate<VkExtensionProperties>(
      [list](std::uint32_t* count, VkExtensionProperties* items) {
        return list(nullptr, count, items);
      },
      4096);
  constexpr const char* kProperties2 = VK_KHR_GET_PHYSICAL_DEVICE_PROPERTIES_2_EXTENSION_NAME;
  if (!contains(extensions, kProperties2)) return {};
  return {kProperties2};
}

VkResult create(PFN_vkGetInstanceProcAddr get, PFN_vkCreateInstance create_instance,
                std::uint32_t version, VkInstance* instance) {
  VkApplicationInfo application{};
  application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
  application.pApplicationName = "yoke";
  application.apiVersion = std::min<std::uint32_t>(version, VK_API_VERSION_1_2);
  std::vector<const char*> extensions;
  if (version < VK_API_VERSION_1_1) extensions = instance_extensions(get);
  VkInstanceCreateInfo info{};
  info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  info.pApplicationInfo = &application;
  info.enabledExtensionCount = static_cast<std::uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  return create_instance(&info, nullptr, instance);
}

Result<void> read_devices(const Instance& instance, Observation& observation) {
  Api api{};
  api.properties =
      instance.find<PFN_vkGetPhysicalDeviceProperties>("vkGetPhysicalDeviceProperties");
  api.memory =
      instance.find<PFN_vkGetPhysicalDeviceMemoryProperties>("vkGetPhysicalDeviceMemoryProperties");
  api.extensions = instance.find<PFN_vkEnumerateDeviceExtensionProperties>(
      "vkEnumerateDeviceExtensionProperties");
  api.properties2 = instance.find<PFN_vkGetPhysicalDeviceProperties2>(
      "vkGetPhysicalDeviceProperties2", "vkGetPhysicalDeviceProperties2KHR");
  api.memory2 = instance.find<PFN_vkGetPhysicalDeviceMemoryProperties2>(
      "vkGetPhysicalDeviceMemoryProperties2", "vkGetPhysicalDeviceMemoryProperties2KHR");
  const auto list = instance.find<PFN_vkEnumeratePhysicalDevices>("vkEnumeratePhysicalDevices");
  if (api.properties == nullptr || api.memory == nullptr || api.extensions == nullptr ||
      list == nullptr) {
    return fail(kIo, "The Vulkan loader lacks functions of Vulkan 1.0.");
  }
  std::uint32_t count = 0;
  if (const VkResult result = list(instance.handle(), &count, nullptr); result != VK_SUCCESS) {
    return fail(kIo, fmt::format("Vulkan lists no devices: status {}.", static_cast<int>(result)));
  }
  const std::uint32_t most = limited_count(count, observation);
  const auto devices = enumerate<VkPhysicalDevice>(
      [&](std::uint32_t* number, VkPhysicalDevice* items) {
        return list(instance.handle(), number, items);
      },
      most);
  for (VkPhysicalDevice const device : devices) {
    observation.devices.push_back(read_gpu(api, device));
  }
  return {};
}

}  // namespace

Result<void> probe_vulkan(const DynamicLibrary& library, Observation& observation) {
  YOKE_TRY(auto* const get, library.function<std::remove_pointer_t<PFN_vkGetInstanceProcAddr>>(
                                "vkGetInstanceProcAddr"));
  const auto create_instance =
      reinterpret_cast<PFN_vkCreateInstance>(get(nullptr, "vkCreateInstance"));
  if (create_instance == nullptr) return fail(kIo, "The Vulkan loader has no vkCreateInstance.");
  // A loader of Vulkan 1.0 does not have this function.
  std::uint32_t version = VK_API_VERSION_1_0;
  if (const auto get_version = reinterpret_cast<PFN_vkEnumerateInstanceVersion>(
          get(nullptr, "vkEnumerateInstanceVersion"))) {
    get_version(&version);
  }
  observation.version = version_text(version);

  VkInstance handle = nullptr;
  const VkResult result = create(get, create_instance, version, &handle);
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
    observation.detail = "No Vulkan driver (ICD) is installed, or none that works here.";
    return {};
  }
  if (result != VK_SUCCESS) {
    return fail(kIo, fmt::format("Vulkan did not start: status {}.", static_cast<int>(result)));
  }
  return read_devices(Instance(get, handle), observation);
}

}  // namespace yoke::hardware
