// Which detector is believed first for which fact, and when two of them really disagree.
// Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "hardware/machine.h"

namespace yoke::hardware::beliefs {

// A fact is taken from the first of its sources that knows it. A source that is not in the list is
// not asked for that fact at all.

// The vendors' libraries know what a device is sold as; sysfs has at most a code name.
inline constexpr std::array kName{Source::kAmdSmi, Source::kNvml, Source::kHip, Source::kCuda,
                                  Source::kVulkan, Source::kDrm,  Source::kKfd};
// HIP first: it is the version that a program's kernels have to be built for, with
// HSA_OVERRIDE_GFX_VERSION in it. KFD last: Linux 6.19 takes some iGPUs for gfx1100 there.
inline constexpr std::array kGfx{Source::kHip, Source::kAmdSmi, Source::kVulkan, Source::kDrm,
                                 Source::kKfd};
inline constexpr std::array kComputeCapability{Source::kNvml, Source::kCuda};
// CUDA and Vulkan are told by the driver; the kernel's files only allow a guess (a small carve-out
// beside a large GTT, no board_info), and so does HIP, whose answer changed with its versions.
inline constexpr std::array kIntegrated{Source::kCuda, Source::kVulkan, Source::kAmdSmi,
                                        Source::kDrm,  Source::kHip,    Source::kKfd,
                                        Source::kNvml};
// The link in sysfs is the driver that is bound; libraries name the one that they belong to.
inline constexpr std::array kDriver{Source::kDrm,  Source::kNvml, Source::kAmdSmi,
                                    Source::kCuda, Source::kHip,  Source::kKfd};
// HIP, CUDA and Vulkan give versions of their own, which say nothing about the kernel's driver.
inline constexpr std::array kDriverVersion{Source::kNvml, Source::kAmdSmi, Source::kDrm};
// The kernel's own count before libraries that read it or that count something else.
inline constexpr std::array kMemoryParts{Source::kDrm, Source::kAmdSmi, Source::kHip,
                                         Source::kVulkan, Source::kKfd};
// NVML sees the whole device with what others use of it; a runtime sees it with its own eyes.
inline constexpr std::array kRuntimeMemory{Source::kNvml, Source::kCuda, Source::kAmdSmi,
                                           Source::kHip, Source::kVulkan};
// Numbers of the PCI bus and the kernel, which the kernel knows best.
inline constexpr std::array kKernelNumbers{Source::kDrm,  Source::kKfd,    Source::kAmdSmi,
                                           Source::kNvml, Source::kVulkan, Source::kHip,
                                           Source::kCuda};

// Names agree if one has all the words of the other: vendors, "(TM)", "(RADV GFX1151)", "Graphics"
// and case aside. "AMD Radeon Graphics" agrees with "Radeon 8060S".
bool same_name(std::string_view a, std::string_view b);
// "AMD Radeon Graphics", "Radeon": any other name that agrees tells more.
bool is_generic_name(std::string_view name);
// Within 1 %.
bool same_size(std::uint64_t a, std::uint64_t b);

// "gfx90a:sramecc+:xnack-" is "gfx90a"; lower case.
std::string plain_gfx(std::string_view gfx);
// Without the driver in parentheses that Vulkan's names end with: " (RADV GFX1151)".
std::string plain_name(std::string_view name);

}  // namespace yoke::hardware::beliefs
