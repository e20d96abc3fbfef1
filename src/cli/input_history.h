// The lines that the user typed in chats, kept in a file that only the user can read. Several chats
// may add to it at once. Main thread only.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::cli {

class InputHistory {
 public:
  explicit InputHistory(std::filesystem::path file) : file_(std::move(file)) {}

  // The newest lines, oldest first; none if there is no file yet. kIo.
  Result<std::vector<std::string>> load();
  // kIo.
  Result<void> append(std::string_view line);

 private:
  Result<void> rewrite(const std::vector<std::string>& lines);

  std::filesystem::path file_;
};

}  // namespace yoke::cli
