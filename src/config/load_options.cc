#include "config/load_options.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace yoke::config {
namespace {

// Engines listen on loopback only, on a port that Yoke chose, without a key.
constexpr std::array<std::string_view, 14> kReservedFlags{
    "--host",       "--port",          "--reuse-port",    "--api-key",    "--api-key-file",
    "--api-prefix", "--ssl-key-file",  "--ssl-cert-file", "--model",      "-m",
    "--models-dir", "--models-preset", "--log-file",      "--log-disable"};

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
