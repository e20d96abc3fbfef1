// The two detectors that ask the kernel's own files: DRM (every GPU with a driver) and KFD (AMD's
// compute topology). Blocking reads of small files; any thread.
#pragma once

#include "hardware/host_files.h"
#include "hardware/observation.h"

namespace yoke::hardware {

Observation detect_drm(const HostFiles& files);
Observation detect_kfd(const HostFiles& files);

// gfx_target_version of a KFD node: 110501 is "gfx1151", 90010 "gfx90a". Empty for 0 and for what
// is no version.
std::string gfx_of_target_version(std::uint64_t version);

}  // namespace yoke::hardware
