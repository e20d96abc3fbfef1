#include "engines/backend_environment.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace yoke::engines {
namespace {

namespace fs = std::filesystem;
using hardware::Backend;
using hardware::Device;
using hardware::Machine;
using hardware::Source;
using hardware::Vendor;

#if defined(__x86_64__)
constexpr std::string_view kRadvManifest = "radeon_icd.x86_64.json";
#elif defined(__aarch64__)
constexpr std::string_view kRadvManifest = "radeon_icd.aarch64.json";
#else
constexpr std::string_view kRadvManifest = "radeon_icd.json";
#endif

// Where the Vulkan loader looks, the first being the administrator's; the last one is NixOS'.
constexpr std::array<std::string_view, 4> kManifestDirs{
    "etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d", "usr/share/vulkan/icd.d",
    "run/opengl-driver/share/vulkan/icd.d"};

bool is_set(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

// Whether the user has settled with one of these variables what Yoke would set.
bool any_set(std::initializer_list<const char*> names) {
  return std::ranges::any_of(names, is_set);
}

class Environment {
 public:
  Environment(const Machine* machine, const config::EnginesConfig& engines, const fs::path& root)
      : machine_(machine), engines_(engines), root_(root) {}

  BackendEnvironment vulkan() {
    if (machine_ == nullptr) return {};
    if (has_vendor(Vendor::kAmd)) {
      pin_radv();
    } else if (only_software() && engines_.software_devices) {
      // llama.cpp passes software devices over unless it is told their number.
      set("GGML_VK_VISIBLE_DEVICES", "0");
    }
    return std::move(made_);
  }

  BackendEnvironment rocm() {
    set_rocm_path();
    if (machine_ == nullptr) return std::move(made_);
    set_visible_gpus();
    correct_gfx_version();
    return std::move(made_);
  }

 private:
  void set(std::string name, std::string value) {
    if (!is_set(name.c_str())) made_.variables.emplace_back(std::move(name), std::move(value));
  }

  bool has_vendor(Vendor vendor) const {
    return std::ranges::any_of(machine_->devices, [vendor](const Device& device) {
      return device.vendor == vendor && !device.software;
    });
  }

  bool only_software() const {
    return std::ranges::all_of(machine_->devices,
                               [](const Device& device) { return device.software; });
  }

  // AMDVLK may be there too, and loses the device where RADV does not.
  void pin_radv() {
    set("AMD_VULKAN_ICD", "RADV");
    if (any_set({"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"})) return;
    // The manifest would hide other vendors' GPUs.
    if (has_vendor(Vendor::kNvidia)) return;
    const auto manifest = find_radv_manifest();
    if (!manifest) {
      made_.notes.push_back(fmt::format(
          "The Vulkan loader chooses the driver: RADV's manifest ({}) was found in none of /{}.",
          kRadvManifest, fmt::join(kManifestDirs, ", /")));
      return;
    }
    // The first one is the name since loader 1.3.207, which then ignores the second.
    set("VK_DRIVER_FILES", *manifest);
    set("VK_ICD_FILENAMES", *manifest);
  }

  // Of this program's architecture: beside it there may be one for 32 bits.
  std::optional<std::string> find_radv_manifest() const {
    for (const std::string_view dir : kManifestDirs) {
      for (const std::string_view name : {kRadvManifest, std::string_view("radeon_icd.json")}) {
        std::error_code error;
        if (fs::is_regular_file(root_ / dir / name, error)) {
          return fmt::format("/{}/{}", dir, name);
        }
      }
    }
    return std::nullopt;
  }

  void set_rocm_path() {
    if (engines_.rocm_path) {
      made_.variables.emplace_back("ROCM_PATH", engines_.rocm_path->string());
      // The system's linker knows nothing of such a place.
      const char* others = std::getenv("LD_LIBRARY_PATH");
      std::string path = (*engines_.rocm_path / "lib").string();
      if (others != nullptr && *others != '\0') path += fmt::format(":{}", others);
      made_.variables.emplace_back("LD_LIBRARY_PATH", std::move(path));
    } else if (const std::string path = installed_rocm(); !path.empty()) {
      set("ROCM_PATH", path);
    }
  }

  // /opt/rocm, else the newest /opt/rocm-*.
  std::string installed_rocm() const {
    std::error_code error;
    if (fs::is_directory(root_ / "opt/rocm", error)) return "/opt/rocm";
    std::vector<std::string> found;
    for (fs::directory_iterator it(root_ / "opt", error), end; !error && it != end;
         it.increment(error)) {
      std::error_code ignored;
      std::string name = it->path().filename().string();
      if (name.starts_with("rocm-") && it->is_directory(ignored)) found.push_back(std::move(name));
    }
    // "rocm-7.10.0" is newer than "rocm-7.2.4": of two numbers the longer one is greater.
    const auto older = [](const std::string& a, const std::string& b) {
      return std::ranges::lexicographical_compare(numbers_of(a), numbers_of(b));
    };
    const auto newest = std::ranges::max_element(found, older);
    return newest == found.end() ? "" : "/opt/" + *newest;
  }

  static std::vector<unsigned long> numbers_of(std::string_view text) {
    std::vector<unsigned long> numbers;
    bool in_number = false;
    for (const char c : text) {
      const bool digit = c >= '0' && c <= '9';
      if (digit && !in_number) numbers.push_back(0);
      if (digit) numbers.back() = numbers.back() * 10 + static_cast<unsigned long>(c - '0');
      in_number = digit;
    }
    return numbers;
  }

  static bool is_usable(const Device& device) {
    return !device.software &&
           std::ranges::any_of(device.backends, [](const hardware::BackendVerdict& verdict) {
             return verdict.backend == Backend::kRocm && verdict.usable;
           });
  }

  // The PCI addresses of the GPUs in the order in which ROCm counts them.
  std::vector<std::string> counted_gpus() const {
    for (const Source source : {Source::kHip, Source::kKfd}) {
      for (const hardware::Observation& seen : machine_->observations) {
        if (seen.source != source || seen.devices.empty()) continue;
        std::vector<std::string> ids;
        for (const hardware::ObservedDevice& device : seen.devices) {
          ids.push_back(device.pci_address.value_or(""));
        }
        return ids;
      }
    }
    std::vector<std::string> ids;
    for (const Device& device : machine_->devices) {
      if (device.vendor == Vendor::kAmd && !device.software) ids.push_back(device.id);
    }
    return ids;
  }

  // A GPU that ROCm can't use would end the engine when it is asked about.
  void set_visible_gpus() {
    if (any_set({"ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES",
                 "GPU_DEVICE_ORDINAL"})) {
      return;
    }
    const std::vector<std::string> ids = counted_gpus();
    std::vector<std::size_t> physical;
    std::vector<std::size_t> visible;
    for (std::size_t index = 0; index < ids.size(); ++index) {
      const auto device = std::ranges::find(machine_->devices, ids[index], &Device::id);
      if (device == machine_->devices.end() || !is_usable(*device)) continue;
      // HIP counts only what the layer below it (ROCr) has left.
      visible.push_back(physical.size());
      physical.push_back(index);
    }
    if (physical.empty()) return;
    set("ROCR_VISIBLE_DEVICES", fmt::format("{}", fmt::join(physical, ",")));
    set("HIP_VISIBLE_DEVICES", fmt::format("{}", fmt::join(visible, ",")));
  }

  // Linux 6.19 takes gfx1151 for gfx1100, for which programs are built differently. The variable
  // holds for every GPU.
  void correct_gfx_version() {
    bool misread = false;
    for (const Device& device : machine_->devices) {
      if (!is_usable(device)) continue;
      if (!device.gfx || device.gfx->value != "gfx1151") return;
      misread = misread || std::ranges::any_of(device.gfx->disagreeing, [](const auto& other) {
                  return other.value == "gfx1100" && other.source == Source::kHip;
                });
    }
    if (misread) set("HSA_OVERRIDE_GFX_VERSION", "11.5.1");
  }

  const Machine* machine_;
  const config::EnginesConfig& engines_;
  const fs::path& root_;
  BackendEnvironment made_;
};

}  // namespace

BackendEnvironment backend_environment(std::string_view backend, const Machine* machine,
                                       const config::EnginesConfig& engines, const fs::path& root) {
  if (backend == "vulkan") return Environment(machine, engines, root).vulkan();
  if (backend == "rocm") return Environment(machine, engines, root).rocm();
  return {};
}

}  // namespace yoke::engines
