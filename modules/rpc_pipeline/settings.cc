#include "rpc_pipeline/settings.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace rpc_pipeline {
namespace {

constexpr long kMaxTimeoutMs = 24L * 3600 * 1000;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): read at load only.
  return value == nullptr ? std::string() : std::string(value);
}

std::chrono::milliseconds timeout(const char* name, std::chrono::milliseconds otherwise) {
  const std::string text = variable(name);
  long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = error == std::errc() && end == text.data() + text.size();
  return number && value > 0 && value <= kMaxTimeoutMs ? std::chrono::milliseconds(value)
                                                       : otherwise;
}

// A name ends up in log lines that are parsed: no control characters, no endless text.
std::string clean(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, 64))
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return text;
}

}  // namespace

std::string Settings::name_of(const std::string& endpoint) const {
  const auto found = names.find(endpoint);
  return found == names.end() ? endpoint : found->second;
}

std::map<std::string, std::string> parse_names(const std::string& text) {
  std::map<std::string, std::string> names;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    const std::string_view entry = rest.substr(0, comma);
    const std::size_t equals = entry.find('=');
    if (equals != std::string_view::npos && equals + 1 < entry.size()) {
      names.emplace(entry.substr(0, equals), clean(entry.substr(equals + 1)));
    }
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  return names;
}

Settings settings_from_environment() {
  Settings settings;
  settings.enabled = variable("YOKE_RPC_CLIENT") == "pipelined";
  settings.names = parse_names(variable("YOKE_RPC_WORKERS"));
  settings.timeout = timeout("YOKE_RPC_TIMEOUT_MS", settings.timeout);
  settings.connect_timeout = timeout("YOKE_RPC_CONNECT_TIMEOUT_MS", settings.connect_timeout);
  settings.hashes = variable("YOKE_RPC_HASHES");
  settings.whole_masks = variable("YOKE_RPC_MASKS") == "whole";
  return settings;
}

}  // namespace rpc_pipeline
