// The command line: llama-server's flags, its help and its complaints.
// Filled once by main before any thread starts; read-only after that.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fake_engine/behaviour.h"

namespace fake_engine {

struct Options {
  std::string model_path;
  std::string alias;
  std::string host = "127.0.0.1";
  int port = 8080;    // 0: any free one.
  int ctx_size = 0;   // 0: from the model; the fake then says 4096.
  int parallel = -1;  // -1: llama-server chooses, which means 4.
  bool vllm = false;  // Called as vLLM, not as llama-server.
  bool embeddings = false;
  bool metrics = false;
  bool slots_endpoint = true;
  std::string slot_save_path;  // Empty: slots can't be saved.
  std::string cache_types;     // What --cache-type-k and -v said, in their order.
  bool log_prefix = true;
  bool log_timestamps = true;
  std::vector<std::string> api_keys;

  // What clients know the model by: the alias, or else the path.
  std::string model_name() const;
};

enum class Action { kServe, kShowVersion, kShowHelp, kListDevices, kFail };

struct ParsedCommandLine {
  Action action = Action::kServe;
  Options options;
  std::string error;  // For kFail, as llama-server words it.
};

// Flags in `hidden` (comma-separated) count as unknown.
ParsedCommandLine parse_command_line(const std::vector<std::string>& arguments,
                                     std::string_view hidden);

// The text of --help in llama-server's layout, without the hidden flags.
std::string help_text(std::string_view hidden);

}  // namespace fake_engine
