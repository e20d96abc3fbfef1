// LoadOptions: how one model is to be loaded, whichever engine computes it. The names are those of
// the keys in a [models.NAME] table. Plain values; any thread.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::config {

enum class ServerType { kLlm, kEmbedding, kRerank };
enum class FlashAttention { kAuto, kOn, kOff };

// As they are written in the configuration: "llm", "embedding", "rerank"; "auto", "on", "off".
std::string_view name_of(ServerType type);
std::string_view name_of(FlashAttention mode);

struct LoadOptions {
  std::filesystem::path model_path;
  ServerType server_type = ServerType::kLlm;

  // Context in tokens; 0 is what the model was trained for. With parallel = 0 all requests share
  // it and each may use the whole of it; with parallel = N each gets n_ctx / N.
  int n_ctx = 8192;
  int n_batch = 0;        // Tokens of prompts handed to the engine at once; 0: fit for the backend.
  int n_ubatch = 0;       // Tokens computed at once, at most n_batch; 0: as many as n_batch.
  int n_gpu_layers = -1;  // -1: all.
  int threads = 0;        // CPU threads; 0: the engine's choice.
  int parallel = 0;       // Requests answered at once; 0: the engine's choice.

  // The backends to try, in this order ("vulkan", "rocm", "cuda", "cpu"); empty: as the devices
  // are.
  std::vector<std::string> backends;

  FlashAttention flash_attn = FlashAttention::kAuto;
  bool fit_memory = false;  // Let the engine shrink these options until they fit its memory.
  bool mlock = true;        // Keep the weights from being swapped out.
  bool cont_batching = true;
  bool jinja = true;             // The model's own chat template; tool calls need it.
  std::string reasoning_format;  // Empty: the engine's default.
  std::string pooling;           // For embeddings. Empty: the model's own.

  std::vector<std::string> extra_args;  // Appended to the engine's command line as they are.
};

// Refuses flags that Yoke has to set itself: where the engine listens, its key, the model, its log.
// kInvalidArgument.
Result<void> check_extra_args(std::span<const std::string> args);

}  // namespace yoke::config
