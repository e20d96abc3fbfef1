#include "doctor/manifest.h"

#include <algorithm>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "doctor/own_files.h"

namespace yoke::doctor {
namespace {

namespace json = boost::json;

// JSON holds text and a file any bytes: each byte stands as the character with its number, so that
// ASCII stays readable.
std::string to_text(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      text += c;
    } else {
      text += static_cast<char>(0xc0 | (byte >> 6));
      text += static_cast<char>(0x80 | (byte & 0x3f));
    }
  }
  return text;
}

std::optional<std::string> to_bytes(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      bytes += text[i];
      continue;
    }
    const bool two = (lead == 0xc2 || lead == 0xc3) && i + 1 < text.size();
    if (!two) return std::nullopt;
    const auto next = static_cast<unsigned char>(text[++i]);
    bytes += static_cast<char>(((lead & 0x03) << 6) | (next & 0x3f));
  }
  return bytes;
}

json::object to_json(const ChangedFile& file) {
  json::object object{{"path", file.path}};
  if (file.original) {
    object["original"] = {{"content", to_text(file.original->content)},
                          {"mode", file.original->mode},
                          {"uid", file.original->uid},
                          {"gid", file.original->gid}};
  } else {
    object["original"] = nullptr;
  }
  json::array written;
  for (const std::string& content : file.written) written.emplace_back(to_text(content));
  object["written"] = std::move(written);
  return object;
}

tl::unexpected<Error> invalid(std::string_view reason) {
  return fail(
      kDoctorBackupInvalid, fmt::format("{} can't be understood: {}.", kManifestPath, reason),
      "It says what the files were before `yoke doctor --fix`; correct it, or put them back "
      "by hand and remove it.");
}

Result<SystemTree::File> read_original(const JsonFields& fields) {
  YOKE_TRY(const std::string text, fields.string("content"));
  auto content = to_bytes(text);
  if (!content) return invalid("a content is not text");
  const auto id = [&](std::string_view name) {
    return static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(fields.integer_or(name, 0), 0, UINT32_MAX));
  };
  constexpr std::uint32_t kPermissions = 07777;
  return SystemTree::File{std::move(*content),
                          static_cast<mode_t>(fields.integer_or("mode", 0644)) & kPermissions,
                          id("uid"), id("gid")};
}

Result<std::vector<std::string>> read_texts(const json::object& object, std::string_view name) {
  std::vector<std::string> texts;
  const auto* value = object.if_contains({name.data(), name.size()});
  const auto* array = value == nullptr ? nullptr : value->if_array();
  if (array == nullptr) return invalid(fmt::format("{} is no list", name));
  for (const json::value& element : *array) {
    const auto* text = element.if_string();
    auto bytes = text == nullptr ? std::nullopt : to_bytes(*text);
    if (!bytes) return invalid(fmt::format("{} holds no text", name));
    texts.push_back(std::move(*bytes));
  }
  return texts;
}

Result<ChangedFile> read_file(const json::value& value) {
  const auto* object = value.if_object();
  if (object == nullptr) return invalid("a file is no object");
  YOKE_TRY(const JsonFields fields, JsonFields::of(value));
  ChangedFile file;
  YOKE_TRY(file.path, fields.string("path"));
  // Whatever this says, --undo must not write anywhere else.
  if (!own_file_at(file.path)) return invalid(fmt::format("{} is none of Yoke's files", file.path));
  YOKE_TRY(file.written, read_texts(*object, "written"));
  if (fields.has("original")) {
    YOKE_TRY(const JsonFields original, fields.object("original"));
    YOKE_TRY(file.original, read_original(original));
  }
  return file;
}

Result<Manifest> parse(std::string_view text) {
  YOKE_TRY(const json::value value, parse_json(text));
  const auto* object = value.if_object();
  const auto* files = object == nullptr ? nullptr : object->if_contains("files");
  const auto* array = files == nullptr ? nullptr : files->if_array();
  if (array == nullptr) return invalid("it has no list of files");
  Manifest manifest;
  for (const json::value& element : *array) {
    YOKE_TRY(ChangedFile file, read_file(element));
    manifest.files.push_back(std::move(file));
  }
  YOKE_TRY(manifest.made_directories, read_texts(*object, "made_directories"));
  return manifest;
}

}  // namespace

ChangedFile* Manifest::find(std::string_view path) {
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const ChangedFile& file) { return file.path == path; });
  return found == files.end() ? nullptr : &*found;
}

Result<Manifest> load_manifest(const SystemTree& tree) {
  YOKE_TRY(const std::optional<SystemTree::File> file, tree.read(kManifestPath));
  if (!file) return Manifest{};
  auto manifest = parse(file->content);
  if (!manifest && manifest.error().code != kDoctorBackupInvalid) {
    return invalid(manifest.error().message);
  }
  return manifest;
}

Result<void> save_manifest(const SystemTree& tree, const Manifest& manifest) {
  json::array files;
  for (const ChangedFile& file : manifest.files) files.push_back(to_json(file));
  json::array directories;
  for (const std::string& directory : manifest.made_directories) {
    directories.emplace_back(to_text(directory));
  }
  const json::object object{
      {"version", 1}, {"files", std::move(files)}, {"made_directories", std::move(directories)}};
  return tree.write(kManifestPath, {json::serialize(object) + "\n", 0600});
}

}  // namespace yoke::doctor
