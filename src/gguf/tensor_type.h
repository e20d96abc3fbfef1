// How the elements of a tensor are stored, and what they take. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>

namespace yoke::gguf {

struct TensorType {
  std::uint32_t id = 0;
  const char* name = nullptr;
  std::uint32_t block_elements = 0;  // Stored together,
  std::uint32_t block_bytes = 0;     // in so many bytes.
};

// None for ids that are unknown or were given up.
const TensorType* find_tensor_type(std::uint32_t id);

// "Q4_K"; "type 99" for one that is not known.
std::string tensor_type_name(std::uint32_t id);

// What general.file_type says: "Q4_K_M", or "file type 99".
std::string file_type_name(std::uint64_t id);

}  // namespace yoke::gguf
