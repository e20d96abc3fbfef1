// Reads one [models.NAME] table. Private to config. One thread at a time.
#pragma once

#include <array>
#include <chrono>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "config/config.h"
#include "config/toml_reader.h"

namespace yoke::config {

inline constexpr std::array<std::string_view, 4> kBackends{"vulkan", "rocm", "cuda", "cpu"};

// What the rest of the file says about every model.
struct ModelDefaults {
  std::filesystem::path model_dir;            // Where its paths start.
  std::chrono::milliseconds unload_after{0};  // Where its table doesn't say it.
  std::span<const GroupConfig> groups;
  RpcClient rpc_client = RpcClient::kPipelined;  // Where its table doesn't say it.
};

inline constexpr std::array<std::pair<std::string_view, RpcClient>, 2> kRpcClients{
    {{"pipelined", RpcClient::kPipelined}, {"stock", RpcClient::kStock}}};

// Mistakes go to the table's problems.
ModelConfig read_model(std::string name, TomlTable& table, const ModelDefaults& defaults);

// "There is no group 'chta'. Did you mean 'chat'?", or how to add it; empty if there is one.
std::string problem_of_group(std::string_view name, std::span<const GroupConfig> groups);

}  // namespace yoke::config
