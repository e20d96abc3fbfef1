// Asking the user before something that can't be taken back. Main thread only.
#pragma once

#include <string_view>

#include "base/result.h"

namespace yoke::cli {

// Whether the answer to `question` is yes. kUsage if there is no terminal to ask on; kIo.
Result<bool> confirm(std::string_view question);

}  // namespace yoke::cli
