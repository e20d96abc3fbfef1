#include "config/load_options.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace yoke::config {
namespace {

// Engines listen on loopback only, on a port that Yoke chose, with the model that Yoke looked at.
// Of others the last one counts, so they may be given again.
constexpr std::array<std::string_view, 20> kReservedFlags{"--host",
                                                          "--port",
                                                          "--reuse-port",
                                                          "--api-key",
                                                          "--api-key-file",
                                                          "--api-prefix",
                                                          "--ssl-key-file",
                                                          "--ssl-cert-file",
                                                          "--model",
                                                          "-m",
                                                          "--model-url",
                                                          "-mu",
                                                          "--hf-repo",
                                                          "-hf",
                                                          "-hfr",
                                                          "--models-dir",
                                                          "--models-preset",
                                                          "--docker-repo",
                                                          "--log-file",
                                                          "--log-disable"};

// As llama.cpp reads it: long flags may be written with underscores.
std::string normalized_flag(std::string_view argument) {
  std::string flag(argument.substr(0, argument.find('=')));
  if (flag.starts_with("--")) std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

}  // namespace

std::string_view name_of(ServerType type) {
  switch (type) {
    case ServerType::kLlm:
      return "llm";
    case ServerType::kEmbedding:
      return "embedding";
    case ServerType::kRerank:
      return "rerank";
  }
  return "unknown";
}

std::string_view name_of(FlashAttention mode) {
  switch (mode) {
    case FlashAttention::kAuto:
      return "auto";
    case FlashAttention::kOn:
      return "on";
    case FlashAttention::kOff:
      return "off";
  }
  return "unknown";
}

std::string_view name_of(AnswerCheck mode) {
  switch (mode) {
    case AnswerCheck::kAuto:
      return "auto";
    case AnswerCheck::kOn:
      return "on";
    case AnswerCheck::kOff:
      return "off";
  }
  return "unknown";
}

bool is_quantized(std::string_view cache_type) {
  constexpr std::array<std::string_view, 4> kWide{"", "f32", "f16", "bf16"};
  return std::ranges::find(kWide, cache_type) == kWide.end();
}

bool uses_rpc(const LoadOptions& options) {
  return !options.rpc_servers.empty() ||
         std::ranges::any_of(options.extra_args, [](const std::string& argument) {
           return normalized_flag(argument) == "--rpc";
         });
}

Result<void> check_extra_args(std::span<const std::string> args) {
  for (const std::string& argument : args) {
    const std::string flag = normalized_flag(argument);
    if (std::find(kReservedFlags.begin(), kReservedFlags.end(), flag) != kReservedFlags.end()) {
      // Only the flag: what follows it may be a secret.
      return fail(kInvalidArgument,
                  fmt::format("extra_args must not contain '{}': Yoke sets it itself.", flag),
                  "Remove it.");
    }
  }
  return {};
}

}  // namespace yoke::config
