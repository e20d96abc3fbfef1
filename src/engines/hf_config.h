// What Yoke needs to know of a HuggingFace model before vLLM loads it: from its config.json, which
// is read but not trusted. Any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace yoke::engines {

// Whatever is 0 or empty is not known.
struct HfConfig {
  int max_positions = 0;                 // The longest context in tokens that vLLM will accept.
  std::uint64_t kv_bytes_per_token = 0;  // At 16 bits a number.
  std::string quantization;              // "awq", "gptq", ...
};

// Nothing is known of a directory without a readable config.json.
HfConfig read_hf_config(const std::filesystem::path& model);

// The rank of a LoRA adapter in that directory; 0 if it is not known.
int lora_rank(const std::filesystem::path& adapter);

}  // namespace yoke::engines
