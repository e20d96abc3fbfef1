#include "cli/model_view.h"

#include <chrono>
#include <system_error>

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include "base/json_text.h"
#include "base/units.h"
#include "cli/local_time.h"

namespace yoke::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using models::CatalogueEntry;
using models::ModelFile;

std::int64_t to_ms(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

bool is_missing(const fs::path& file) {
  std::error_code error;
  return fs::status(file, error).type() == fs::file_type::not_found;
}

void add_file(Page& page, const ModelFile& file) {
  std::string what = format_bytes(file.bytes);
  if (file.role != models::FileRole::kWeights) what += fmt::format(", {}", name_of(file.role));
  if (file.linked) what += ", linked";
  if (is_missing(file.path)) what += ", missing";
  page.line(fmt::format("{} ({})", file.path.string(), what));
  if (!file.sha256.empty()) page.line("  SHA-256 " + file.sha256);
}

}  // namespace

std::vector<fs::path> missing_files(const CatalogueEntry& entry) {
  std::vector<fs::path> missing;
  for (const ModelFile& file : entry.files) {
    if (is_missing(file.path)) missing.push_back(file.path);
  }
  return missing;
}

void add_entry(Page& page, const CatalogueEntry& entry, bool with_header) {
  page.title(entry.name);
  page.add("Source", entry.source);
  if (!entry.revision.empty()) page.add("Revision", entry.revision);
  if (to_ms(entry.added) > 0) page.add("Added", local_time(to_ms(entry.added)));
  if (with_header) {
    page.add("Format", entry.format);
    page.add("Path", entry.path.string());
    if (!entry.architecture.empty()) page.add("Architecture", entry.architecture);
    if (entry.parameters > 0) page.add("Parameters", format_count(entry.parameters));
    if (!entry.quantization.empty()) page.add("Quantization", entry.quantization);
    if (entry.context_length > 0) {
      page.add("Context", fmt::format("{} tokens", entry.context_length));
    }
  }
  page.add("Size on disk", format_bytes(entry.bytes()));
  page.title("Files");
  for (const ModelFile& file : entry.files) add_file(page, file);
}

json::object entry_json(const CatalogueEntry& entry) {
  const auto view = [](std::string_view text) { return json::string(text.data(), text.size()); };
  json::array files;
  for (const ModelFile& file : entry.files) {
    files.push_back(json::object{{"path", utf8_json(file.path.native())},
                                 {"bytes", file.bytes},
                                 {"sha256", utf8_json(file.sha256)},
                                 {"role", view(name_of(file.role))},
                                 {"linked", file.linked},
                                 {"missing", is_missing(file.path)}});
  }
  return {{"name", utf8_json(entry.name)},
          {"source", utf8_json(entry.source)},
          {"revision", utf8_json(entry.revision)},
          {"format", utf8_json(entry.format)},
          {"path", utf8_json(entry.path.native())},
          {"bytes", entry.bytes()},
          {"architecture", utf8_json(entry.architecture)},
          {"quantization", utf8_json(entry.quantization)},
          {"parameters", entry.parameters},
          {"context_length", entry.context_length},
          {"added_ms", to_ms(entry.added)},
          {"files", std::move(files)}};
}

}  // namespace yoke::cli
