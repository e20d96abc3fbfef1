// Which of CUDA's runtime libraries llama.cpp's module would find. Blocking reads; any thread.
#pragma once

#include <string>
#include <vector>

#include "hardware/host_files.h"

namespace yoke::doctor {

struct CudaLibraries {
  std::vector<int> versions;  // Of CUDA, whose libcudart and libcublas the dynamic linker finds.
  std::string unlinked_dir;   // Where else they lie, if it finds none; may be empty.
};

CudaLibraries read_cuda_libraries(const hardware::HostFiles& files);

}  // namespace yoke::doctor
