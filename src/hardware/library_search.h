// Where the vendors' libraries lie: by looking for files, as loading one runs its code.
// Blocking reads of directories; any thread.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "hardware/observation.h"

namespace yoke::hardware {

// "libamd_smi.so" for kAmdSmi; empty for detectors that need no library.
std::string_view library_of(Source source);

// The files in `directories` that could be this source's library, in the order in which to try
// them: by directory, the newest version first. Each file once, whatever links point to it; at
// most 8.
std::vector<std::filesystem::path> find_libraries(
    Source source, const std::vector<std::filesystem::path>& directories);

// Where the dynamic linker and the vendors' installers put libraries on this machine.
std::vector<std::filesystem::path> system_library_directories();

}  // namespace yoke::hardware
