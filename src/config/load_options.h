// LoadOptions: how one model is to be loaded, whichever engine computes it. The names are those of
// the keys in a [models.NAME] table. Plain values; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/rpc_servers.h"

namespace yoke::config {

enum class ServerType { kLlm, kEmbedding, kRerank };
enum class FlashAttention { kAuto, kOn, kOff };
// Whether a GPU's answers are compared with the CPU's before it serves anybody (docs/engines.md).
enum class AnswerCheck { kAuto, kOn, kOff };

// As they are written in the configuration: "llm", "embedding", "rerank"; "auto", "on", "off".
std::string_view name_of(ServerType type);
std::string_view name_of(FlashAttention mode);
std::string_view name_of(AnswerCheck mode);

// Whether a type of the KV cache is smaller than 16 bits: "q8_0", "iq4_nl".
bool is_quantized(std::string_view cache_type);

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
  std::string chat_template;  // In place of the model's: a built-in name, or a Jinja file's path.

  // The KV cache's types: "f16", "q8_0", ...; empty: f16. A quantized V needs flash attention.
  std::string cache_type_k;
  std::string cache_type_v;

  std::string split_mode;  // Over several GPUs: "none", "layer", "row", "tensor"; empty: layer.
  std::vector<double> tensor_split;  // The share of each GPU; empty: as their free memory.
  int main_gpu = -1;                 // With split_mode "none"; -1: the engine's choice.

  // Where layers go besides this machine's GPUs, or instead of its CPU.
  std::vector<RpcServer> rpc_servers;
  RpcClient rpc_client = RpcClient::kPipelined;
  // How long one of them may owe an answer before it is taken for lost.
  std::chrono::milliseconds rpc_timeout = std::chrono::minutes(2);

  std::filesystem::path mmproj;             // The projector of a multimodal model.
  std::filesystem::path draft_model;        // For speculative decoding.
  std::vector<std::filesystem::path> lora;  // Adapters.

  // Host memory in which the engine keeps prompts that it has read before, beside the KV cache; in
  // bytes. None: by the memory that there is (decisions.h).
  std::optional<std::uint64_t> cache_ram;

  // vLLM: which part of the GPU's memory it may use, 0 to 1; 0: vLLM's default.
  double gpu_memory_utilization = 0;

  AnswerCheck answer_check = AnswerCheck::kAuto;

  std::vector<std::string> extra_args;  // Appended to the engine's command line as they are.

  friend bool operator==(const LoadOptions&, const LoadOptions&) = default;
};

// Whether layers are computed by RPC servers: its own, or those that extra_args name.
bool uses_rpc(const LoadOptions& options);

// Refuses flags that Yoke has to set itself: where the engine listens, its key, the model, its log.
// kInvalidArgument.
Result<void> check_extra_args(std::span<const std::string> args);

}  // namespace yoke::config
