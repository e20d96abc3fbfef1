// Starting an engine's process, and seeing that it is ready. On the control loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "config/load_options.h"
#include "engines/capabilities.h"
#include "engines/install.h"
#include "hardware/machine.h"
#include "http/client.h"
#include "io/task.h"
#include "supervisor/child_process.h"
#include "supervisor/guard.h"

namespace yoke::supervisor {

// An engine that instances may be started with.
struct Engine {
  engines::EngineInstall install;
  engines::Capabilities capabilities;
  std::vector<std::pair<std::string, std::string>> env{};  // That its backend needs.
  std::string driver{};                                    // engines::Candidate::driver
  std::vector<std::string> notes{};                        // engines::Candidate::notes
};

// "llama.cpp 0.5.0"
std::string short_name(const Engine& engine);
// With all that tells one build from another: "llama.cpp 0.5.0 (build 1, commit de3ff81)".
std::string full_name(const Engine& engine);

struct StartedEngine {
  std::unique_ptr<ChildProcess> child;
  http::Endpoint endpoint;
  std::string key;                 // That it asks for; secret.
  std::vector<std::string> notes;  // Options that were left out, and why.
};

struct EngineStart {
  const Engine& engine;
  const config::LoadOptions& options;  // With the decisions in it.
  std::string_view alias;
  const hardware::Machine* machine = nullptr;
  Guard* guard = nullptr;
  std::filesystem::path slot_dir{};    // Where it may save KV caches; empty: nowhere.
  std::filesystem::path rpc_hashes{};  // engines::rpc_environment
};

// Of a command line that can't be made: an error of engines::command_line. kIo, kSpawnFailed.
Result<StartedEngine> start_engine(boost::asio::any_io_executor executor, const EngineStart& start,
                                   ChildProcess::LineSink sink);

// False after `limit`. Looks again and again; the caller watches for the process's end.
io::Task<bool> wait_until_ready(http::Endpoint endpoint, std::chrono::milliseconds limit);

}  // namespace yoke::supervisor
