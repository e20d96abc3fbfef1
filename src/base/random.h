// Random text that nobody can guess. Any thread.
#pragma once

#include <cstddef>
#include <string>

namespace yoke {

// So many bytes of the kernel's randomness in hexadecimal digits. Ends the program where the kernel
// gives none, which does not happen once it has started.
std::string random_hex(std::size_t bytes);

}  // namespace yoke
