#include "fake_engine/slot_routes.h"

#include <charconv>
#include <filesystem>
#include <optional>
#include <string>

#include "fake_engine/engine.h"
#include "fake_engine/json_text.h"
#include "fake_engine/log.h"
#include "fake_engine/process.h"

namespace fake_engine {
namespace {

constexpr std::string_view kPrefix = "/slots/";

std::optional<size_t> slot_of(const Engine& engine, std::string_view path) {
  path.remove_prefix(kPrefix.size());
  size_t slot = 0;
  const auto [rest, error] = std::from_chars(path.data(), path.data() + path.size(), slot);
  if (error != std::errc() || rest != path.data() + path.size()) return std::nullopt;
  return slot % engine.slots().size();  // As llama-server does.
}

std::optional<std::string> file_of(const Engine& engine, const HttpRequest& request) {
  const auto body = json::read_object(request.body);
  if (!body || !body->contains("filename")) return std::nullopt;
  const std::string name = json::as_string(body->at("filename")).value_or("");
  if (name.empty() || name.size() > 255 || name.find_first_of("/\\:*?\"<>|") != name.npos ||
      name.find("..") != name.npos || name.back() == '.') {
    return std::nullopt;
  }
  return engine.options().slot_save_path + '/' + name;
}

// True if the script had it fail; then it is answered.
bool strike(Engine& engine, const std::string& how, ReplyWriter& writer) {
  if (how.empty() || how == "short" || !may_strike(engine.behaviour())) return false;
  if (how == "crash") crash(engine.behaviour());
  if (how == "hang") {
    writer.connection().wait_until(kNoDeadline);
    writer.drop_connection();
  } else {
    writer.send_error(500, "server_error", "Unable to save slot");
  }
  return true;
}

std::string reply(size_t slot, const std::string& path, std::string_view what, uint64_t tokens,
                  std::string_view how, uint64_t bytes) {
  const std::string name = std::filesystem::path(path).filename();
  std::string text = "{\"id_slot\":" + std::to_string(slot);
  text.append(",\"filename\":").append(json::quote(name)).append(",\"").append(what);
  text.append("\":").append(std::to_string(tokens)).append(",\"").append(how);
  return text.append("\":").append(std::to_string(bytes)).append(",\"timings\":{}}");
}

void save(Engine& engine, size_t slot, const std::string& path, ReplyWriter& writer) {
  ++engine.counters().saves;
  const std::string& how = engine.behaviour().save_failure;
  if (strike(engine, how, writer)) return;
  const uint64_t tokens = engine.cache().tokens_in(slot);
  const auto bytes = engine.cache().save(slot, path);
  if (!bytes) {
    writer.send_error(500, "server_error", "Unable to save slot");
    return;
  }
  if (how == "short" && may_strike(engine.behaviour())) {
    std::error_code ignored;
    std::filesystem::resize_file(path, *bytes / 2, ignored);
  }
  writer.send_json(200, reply(slot, path, "n_saved", tokens, "n_written", *bytes));
}

void restore(Engine& engine, size_t slot, const std::string& path, ReplyWriter& writer) {
  ++engine.counters().restores;
  if (strike(engine, engine.behaviour().restore_failure, writer)) return;
  const auto restored = engine.cache().restore(slot, path);
  if (restored == KvCache::Restored::kForeign) ++engine.counters().foreign_restores;
  if (restored != KvCache::Restored::kDone) {
    writer.send_error(400, "invalid_request_error",
                      "Unable to restore slot: No available space in KV cache or invalid slot save "
                      "file");
    return;
  }
  std::error_code ignored;
  const auto bytes = std::filesystem::file_size(path, ignored);
  writer.send_json(
      200, reply(slot, path, "n_restored", engine.cache().tokens_in(slot), "n_read", bytes));
}

}  // namespace

bool is_slot_action(const HttpRequest& request) {
  return request.path.starts_with(kPrefix) && request.query.starts_with("action=");
}

void answer_slot_action(Engine& engine, const HttpRequest& request, ReplyWriter& writer) {
  if (engine.options().slot_save_path.empty()) {
    writer.send_error(501, "not_supported_error",
                      "This server does not support slots action. Start it with "
                      "`--slot-save-path`");
    return;
  }
  const std::string action = request.query.substr(request.query.find('=') + 1);
  const auto slot = slot_of(engine, request.path);
  if (!slot) {
    writer.send_error(400, "invalid_request_error", "Invalid slot ID");
  } else if (action == "erase") {
    engine.cache().erase(*slot);
    writer.send_json(200, "{\"id_slot\":" + std::to_string(*slot) + ",\"n_erased\":0}");
  } else if (const auto path = file_of(engine, request); !path) {
    writer.send_error(400, "invalid_request_error", "Invalid filename");
  } else if (action == "save") {
    save(engine, *slot, *path, writer);
  } else if (action == "restore") {
    restore(engine, *slot, *path, writer);
  } else {
    writer.send_error(400, "invalid_request_error", "Invalid action");
  }
}

}  // namespace fake_engine
