// What Yoke notes beside each saved context, so that it can be trusted after a restart, and how the
// files of both are called. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke::contexts {

inline constexpr std::string_view kPartSuffix = ".part";
inline constexpr std::string_view kSidecarSuffix = ".json";

struct Sidecar {
  std::string key;
  std::string model;  // Its name when the context was saved; for people.
  std::uint64_t bytes = 0;
  std::uint64_t tokens = 0;
  std::int64_t modified_ns = 0;  // Of the context's file.
};

std::string sidecar_text(const Sidecar& sidecar);
// kInvalidJson, also for another version of the format.
Result<Sidecar> parse_sidecar(std::string_view text);

// A name that no other context has or had: "ctx-KEY-RANDOM.kv".
std::string new_context_name(std::string_view key);

enum class FileKind { kContext, kSidecar, kPart };
// What the file of this name is; none if Yoke gives no such names.
std::optional<FileKind> kind_of(std::string_view name);

}  // namespace yoke::contexts
