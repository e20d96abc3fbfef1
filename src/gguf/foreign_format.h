// What a file is that is no GGUF model, by its first bytes. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

namespace yoke::gguf {

struct ForeignFormat {
  std::string what;  // "is a PNG image"
  std::string hint;
  bool cut = false;  // A GGUF file that ends before it could be told.
};

inline constexpr std::size_t kHeadBytes = 512;        // Enough to tell them apart.
inline constexpr std::size_t kFixedHeaderBytes = 24;  // Magic, version, tensor count, key count.

// `what` is empty if it begins as GGUF of a version that Yoke reads. `head`: the first kHeadBytes,
// or all of a shorter file.
ForeignFormat foreign_format(std::string_view head);

}  // namespace yoke::gguf
