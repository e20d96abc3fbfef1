#include "models/cut_pull.h"

#include <optional>
#include <system_error>

#include "models/part_file.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

// None if there is nothing of it.
std::optional<std::uint64_t> bytes_there(const fs::path& file) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  return error ? PartFile::durable(file) : std::optional<std::uint64_t>(size);
}

}  // namespace

Result<std::vector<CutPull>> cut_pulls(Catalogue& catalogue) {
  YOKE_TRY(std::vector<BegunPull> begun, catalogue.begun_pulls());
  std::vector<CutPull> cut;
  for (BegunPull& pull : begun) {
    CutPull seen;
    bool any = false;
    for (const BegunPull::File& file : pull.files) {
      const auto there = bytes_there(file.path);
      any = any || there.has_value();
      seen.done += there.value_or(0);
      seen.total += file.bytes;
    }
    if (!any) continue;
    seen.pull = std::move(pull);
    cut.push_back(std::move(seen));
  }
  return cut;
}

}  // namespace yoke::models
