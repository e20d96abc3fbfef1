#include "config/changes.h"

#include <array>
#include <string_view>

namespace yoke::config {
namespace {

struct Key {
  std::string_view name;
  bool (*is_same)(const Config& a, const Config& b);
  void (*copy)(const Config& from, Config& to);
};

// A member of a table of the configuration.
template <auto Table, auto Member>
constexpr Key key(std::string_view name) {
  return {name,
          [](const Config& a, const Config& b) { return a.*Table.*Member == b.*Table.*Member; },
          [](const Config& from, Config& to) { to.*Table.*Member = from.*Table.*Member; }};
}

template <auto Member>
constexpr Key server(std::string_view name) {
  return key<&Config::server, Member>(name);
}

template <auto Member>
constexpr Key engines(std::string_view name) {
  return key<&Config::engines, Member>(name);
}

// Of those that share a name, the first that changed names them all.
constexpr std::array kNeedRestart{
    server<&ServerConfig::host>("[server] listen"),
    server<&ServerConfig::port>("[server] listen"),
    server<&ServerConfig::threads>("[server] threads"),
    server<&ServerConfig::state_dir>("[server] state_dir"),
    key<&Config::contexts, &ContextsConfig::max_bytes>("[contexts] max_size"),
};

constexpr std::array kTakenOver{
    server<&ServerConfig::api_key>("[server] api_key"),
    server<&ServerConfig::allowed_origins>("[server] allowed_origins"),
    server<&ServerConfig::max_request_bytes>("[server] max_request_size"),
    server<&ServerConfig::start_timeout>("[server] start_timeout"),
    server<&ServerConfig::first_byte_timeout>("[server] first_byte_timeout"),
    server<&ServerConfig::idle_timeout>("[server] idle_timeout"),
    server<&ServerConfig::hang_timeout>("[server] hang_timeout"),
    server<&ServerConfig::log_level>("[server] log_level"),
    engines<&EnginesConfig::llama_server>("[engines] llama_server"),
    engines<&EnginesConfig::llama_servers>("[engines] llama_server_*"),
    engines<&EnginesConfig::vllm>("[engines] vllm"),
    engines<&EnginesConfig::rocm_path>("[engines] rocm_path"),
    engines<&EnginesConfig::software_devices>("[engines] software_devices"),
    key<&Config::memory, &MemoryConfig::host>("[memory] host"),
    key<&Config::memory, &MemoryConfig::gpu>("[memory] gpu"),
    key<&Config::contexts, &ContextsConfig::save_after>("[contexts] save_after"),
};

template <class Keys>
std::vector<std::string> changed(const Keys& keys, const Config& running, const Config& next) {
  std::vector<std::string> names;
  for (const Key& key : keys) {
    if (key.is_same(running, next)) continue;
    if (names.empty() || names.back() != key.name) names.emplace_back(key.name);
  }
  return names;
}

}  // namespace

ConfigChanges compare(const Config& running, const Config& next) {
  ConfigChanges changes{changed(kTakenOver, running, next), changed(kNeedRestart, running, next)};
  if (running.groups != next.groups) changes.taken_over.emplace_back("[groups]");
  return changes;
}

void keep_until_restart(const Config& running, Config& next) {
  for (const Key& key : kNeedRestart) key.copy(running, next);
}

}  // namespace yoke::config
