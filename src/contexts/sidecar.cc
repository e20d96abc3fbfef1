#include "contexts/sidecar.h"

#include <algorithm>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "base/random.h"

namespace yoke::contexts {
namespace {

constexpr std::int64_t kFormat = 1;
constexpr std::string_view kPrefix = "ctx-";
constexpr std::string_view kExtension = ".kv";
constexpr std::size_t kKeyDigits = 16;
constexpr std::size_t kRandomBytes = 12;

// FNV-1a: only for people who look at the directory.
std::uint64_t short_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  return hash;
}

bool is_hex(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool cut_suffix(std::string_view& name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return false;
  name.remove_suffix(suffix.size());
  return true;
}

bool is_context_name(std::string_view name) {
  constexpr std::size_t kDigits = kKeyDigits + 1 + 2 * kRandomBytes;
  if (!name.starts_with(kPrefix) || !cut_suffix(name, kExtension)) return false;
  name.remove_prefix(kPrefix.size());
  return name.size() == kDigits && name[kKeyDigits] == '-' && is_hex(name.substr(0, kKeyDigits)) &&
         is_hex(name.substr(kKeyDigits + 1));
}

Result<std::uint64_t> positive(const JsonFields& fields, std::string_view name) {
  YOKE_TRY(const std::int64_t value, fields.integer(name));
  if (value < 0) return fail(kInvalidJson, fmt::format("{}: is negative.", name));
  return static_cast<std::uint64_t>(value);
}

}  // namespace

std::string sidecar_text(const Sidecar& sidecar) {
  return pretty_json_text({{"format", kFormat},
                           {"key", utf8_json(sidecar.key)},
                           {"model", utf8_json(sidecar.model)},
                           {"bytes", sidecar.bytes},
                           {"tokens", sidecar.tokens},
                           {"modified_ns", sidecar.modified_ns}}) +
         "\n";
}

Result<Sidecar> parse_sidecar(std::string_view text) {
  YOKE_TRY(const boost::json::value document, parse_json(text));
  YOKE_TRY(const JsonFields fields, JsonFields::of(document));
  YOKE_TRY(const std::int64_t format, fields.integer("format"));
  if (format != kFormat) {
    return fail(kInvalidJson, fmt::format("It is of format {}, not {}.", format, kFormat));
  }
  Sidecar sidecar;
  YOKE_TRY(sidecar.key, fields.string("key"));
  sidecar.model = fields.string_or("model", "");
  YOKE_TRY(sidecar.bytes, positive(fields, "bytes"));
  YOKE_TRY(sidecar.tokens, positive(fields, "tokens"));
  YOKE_TRY(sidecar.modified_ns, fields.integer("modified_ns"));
  return sidecar;
}

std::string new_context_name(std::string_view key) {
  return fmt::format("{}{:016x}-{}{}", kPrefix, short_hash(key), random_hex(kRandomBytes),
                     kExtension);
}

std::optional<FileKind> kind_of(std::string_view name) {
  const bool part = cut_suffix(name, kPartSuffix);
  const bool sidecar = cut_suffix(name, kSidecarSuffix);
  if (!is_context_name(name)) return std::nullopt;
  if (part) return FileKind::kPart;
  return sidecar ? FileKind::kSidecar : FileKind::kContext;
}

}  // namespace yoke::contexts
