// The module's entry: what llama.cpp looks for when it loads a backend, and its registry "RPC".

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>

#include "ggml-impl.h"
#include "rpc_pipeline/client_loop.h"
#include "rpc_pipeline/device.h"
#include "rpc_pipeline/reply_reader.h"

#ifndef YOKE_GGML_VERSION
#error "YOKE_GGML_VERSION is the release that the headers are of"
#endif

namespace rpc_pipeline {
namespace {

// Written at once and whole: llama.cpp's own log is written by a thread that exit() doesn't wait
// for.
void log_line(const std::string& line) {
  const std::string text = "yoke-rpc: " + line + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

// ggml's own interface number stays the same when its structures change, so only the very release
// that the module was built for will do.
bool is_our_release() {
  constexpr std::size_t kObjectSize = 32;  // Of ggml.c's ggml_object, which precedes a tensor.
  const bool same_layout = ggml_tensor_overhead() == kObjectSize + sizeof(ggml_tensor);
  return same_layout && std::strcmp(ggml_version(), YOKE_GGML_VERSION) == 0;
}

ClientLoop& client() {
  // Lives as long as the process: ggml keeps pointers to its devices, and exit() must not wait.
  static ClientLoop& loop =
      *std::make_unique<ClientLoop>(settings_from_environment(), log_line).release();
  return loop;
}

// The devices of one worker, as a registry of its own: llama.cpp registers what add_server() gives.
struct WorkerRegistry {
  std::string name;
  std::vector<std::unique_ptr<RemoteDevice>> devices;
  ggml_backend_reg registry{};
};

const char* get_name(ggml_backend_reg_t registry) {
  const auto* const worker = static_cast<const WorkerRegistry*>(registry->context);
  return worker == nullptr ? "RPC" : worker->name.c_str();
}

std::size_t get_device_count(ggml_backend_reg_t registry) {
  const auto* const worker = static_cast<const WorkerRegistry*>(registry->context);
  return worker == nullptr ? 0 : worker->devices.size();
}

ggml_backend_dev_t get_device(ggml_backend_reg_t registry, std::size_t index) {
  const auto* const worker = static_cast<const WorkerRegistry*>(registry->context);
  return worker == nullptr || index >= worker->devices.size() ? nullptr
                                                              : &worker->devices[index]->device;
}

ggml_backend_reg_t add_server(const char* endpoint);

void* get_proc_address(ggml_backend_reg_t /*registry*/, const char* name) {
  const bool known = std::strcmp(name, "ggml_backend_rpc_add_server") == 0;
  return known ? reinterpret_cast<void*>(add_server) : nullptr;
}

constexpr ggml_backend_reg_i kInterface = {
    .get_name = get_name,
    .get_device_count = get_device_count,
    .get_device = get_device,
    .get_proc_address = get_proc_address,
};

ggml_backend_reg_t main_registry() {
  static ggml_backend_reg registry{GGML_BACKEND_API_VERSION, kInterface, nullptr};
  return &registry;
}

// Null if the worker can't be used; the log says why.
std::unique_ptr<WorkerRegistry> make_registry(const std::string& address,
                                              std::size_t& next_device) {
  Endpoint* const endpoint = client().endpoint(address);
  if (endpoint == nullptr) return nullptr;
  DeviceCountReply reply{};
  Message question;
  question.command = Command::kDeviceCount;
  if (!endpoint->call(std::move(question), reply)) return nullptr;
  if (const auto error = check(reply)) {
    client().give_up(*endpoint, *error);
    return nullptr;
  }
  auto worker = std::make_unique<WorkerRegistry>();
  worker->name = "RPC[" + address + "]";
  for (std::uint32_t i = 0; i < reply.count; ++i) {
    std::string name = "RPC" + std::to_string(next_device++);
    worker->devices.push_back(
        std::make_unique<RemoteDevice>(client(), *endpoint, i, std::move(name), main_registry()));
    if (!learn_limits(*worker->devices.back())) return nullptr;
  }
  worker->registry = {GGML_BACKEND_API_VERSION, kInterface, worker.get()};
  return worker;
}

// Throws where the worker can't be used: llama.cpp would go on without it, with the model on the
// others.
ggml_backend_reg_t add_server(const char* endpoint) {
  static std::mutex mutex;
  static std::size_t next_device = 0;
  static auto& known =
      *std::make_unique<std::map<std::string, std::unique_ptr<WorkerRegistry>>>().release();
  const std::lock_guard lock(mutex);
  auto& worker = known[endpoint];
  if (!worker) worker = make_registry(endpoint, next_device);
  if (!worker) throw std::invalid_argument("yoke-rpc: a worker can't be used");
  return &worker->registry;
}

}  // namespace
}  // namespace rpc_pipeline

extern "C" {

__attribute__((visibility("default"))) int ggml_backend_score() {
  if (!rpc_pipeline::settings_from_environment().enabled) return 0;
  if (rpc_pipeline::is_our_release()) return 100;
  rpc_pipeline::log_line(
      std::string("not loaded: built for ggml " YOKE_GGML_VERSION ", this is ggml ") +
      ggml_version());
  return 0;
}

__attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init() {
  return rpc_pipeline::is_our_release() ? rpc_pipeline::main_registry() : nullptr;
}
}
