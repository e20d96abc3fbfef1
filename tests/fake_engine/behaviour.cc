#include "fake_engine/behaviour.h"

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <unistd.h>
#include <utility>
#include <variant>

#include <climits>

namespace fake_engine {
namespace {

constexpr std::string_view kModelFileMark = "FAKE-ENGINE-SCRIPT";
constexpr size_t kMaxScriptBytes = 64 * 1024;

struct Integer {
  int64_t Behaviour::* field;
  int64_t min;
  int64_t max;
};
using Field =
    std::variant<Integer, bool Behaviour::*, double Behaviour::*, std::string Behaviour::*>;

struct Key {
  std::string_view name;
  Field field;
};

constexpr int64_t kMaxMs = 24 * 3600 * 1000;
constexpr int64_t kMaxTokens = 100'000'000;

const Key kKeys[] = {
    {"version", &Behaviour::version},
    {"devices", &Behaviour::devices},
    {"hide_flags", &Behaviour::hide_flags},
    {"load_ms", Integer{&Behaviour::load_ms, 0, kMaxMs}},
    {"hang_on_load", &Behaviour::hang_on_load},
    {"crash_on_load", &Behaviour::crash_on_load},
    {"crash_after_ms", Integer{&Behaviour::crash_after_ms, kNever, kMaxMs}},
    {"break_after_ms", Integer{&Behaviour::break_after_ms, kNever, kMaxMs}},
    {"exit_after_requests", Integer{&Behaviour::exit_after_requests, kNever, kMaxTokens}},
    {"max_lifetime_s", Integer{&Behaviour::max_lifetime_s, 1, kMaxMs / 1000}},
    {"ignore_term", &Behaviour::ignore_term},
    {"stop_ms", Integer{&Behaviour::stop_ms, 0, kMaxMs}},
    {"spawn_children", Integer{&Behaviour::spawn_children, 0, 64}},
    {"children_setsid", &Behaviour::children_setsid},
    {"children_stay", &Behaviour::children_stay},
    {"log_flood_lines", Integer{&Behaviour::log_flood_lines, 0, kMaxTokens}},
    {"load_log", &Behaviour::load_log},
    {"keep_alive_ms", Integer{&Behaviour::keep_alive_ms, 1, kMaxMs}},
    {"keep_alive_requests", Integer{&Behaviour::keep_alive_requests, 1, INT_MAX}},
    {"slots", Integer{&Behaviour::slots, 0, 100'000}},
    {"prefill_ms", Integer{&Behaviour::prefill_ms, 0, kMaxMs}},
    {"tokens", Integer{&Behaviour::tokens, 0, kMaxTokens}},
    {"tokens_per_s", &Behaviour::tokens_per_s},
    {"token_bytes", Integer{&Behaviour::token_bytes, 0, 1024 * 1024}},
    {"timestamps", &Behaviour::timestamps},
    {"ping_ms", Integer{&Behaviour::ping_ms, 0, kMaxMs}},
    {"late_headers", &Behaviour::late_headers},
    {"no_content_length", &Behaviour::no_content_length},
    {"big_header_bytes", Integer{&Behaviour::big_header_bytes, 0, 64 * 1024 * 1024}},
    {"crash_after_tokens", Integer{&Behaviour::crash_after_tokens, kNever, kMaxTokens}},
    {"crash_exit", Integer{&Behaviour::crash_exit, 0, 255}},
    {"crash_log", &Behaviour::crash_log},
    {"hang_after_tokens", Integer{&Behaviour::hang_after_tokens, kNever, kMaxTokens}},
    {"half_close_after_tokens", Integer{&Behaviour::half_close_after_tokens, kNever, kMaxTokens}},
    {"reset_after_tokens", Integer{&Behaviour::reset_after_tokens, kNever, kMaxTokens}},
    {"garbage_chunk", Integer{&Behaviour::garbage_chunk, kNever, kMaxTokens}},
    {"error_after_tokens", Integer{&Behaviour::error_after_tokens, kNever, kMaxTokens}},
    {"garbage", &Behaviour::garbage},
    {"status", Integer{&Behaviour::status, 0, 599}},
    {"message", &Behaviour::message},
    {"once_file", &Behaviour::once_file},
    {"stays_broken", &Behaviour::stays_broken},
    {"save_failure", &Behaviour::save_failure},
    {"restore_failure", &Behaviour::restore_failure},
    {"ram_cache", &Behaviour::ram_cache},
    {"model_seed", Integer{&Behaviour::model_seed, 0, INT64_MAX}},
    {"wrong_probs", &Behaviour::wrong_probs},
    {"journal", &Behaviour::journal},
};

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

// Each overload returns what the value should have been, or nothing.
std::optional<std::string> assign(Behaviour& behaviour, Integer key, const std::string& value) {
  const auto number = parse_number<int64_t>(value);
  if (!number || *number < key.min || *number > key.max) {
    return "a whole number from " + std::to_string(key.min) + " to " + std::to_string(key.max);
  }
  behaviour.*key.field = *number;
  return std::nullopt;
}

std::optional<std::string> assign(Behaviour& behaviour, bool Behaviour::* field,
                                  const std::string& value) {
  if (value != "0" && value != "1") return "0 or 1";
  behaviour.*field = value == "1";
  return std::nullopt;
}

std::optional<std::string> assign(Behaviour& behaviour, double Behaviour::* field,
                                  const std::string& value) {
  const auto number = parse_number<double>(value);
  if (!number || !(*number >= 0 && *number <= 1e9)) return "a number from 0 to 1e9";
  behaviour.*field = *number;
  return std::nullopt;
}

std::optional<std::string> assign(Behaviour& behaviour, std::string Behaviour::* field,
                                  const std::string& value) {
  behaviour.*field = value;
  return std::nullopt;
}

std::optional<std::string> assign_signal(Behaviour& behaviour, const std::string& value) {
  const std::pair<std::string_view, int> signals[] = {
      {"SEGV", SIGSEGV}, {"ABRT", SIGABRT}, {"KILL", SIGKILL}, {"BUS", SIGBUS}, {"ILL", SIGILL}};
  for (const auto& [name, number] : signals) {
    if (value != name) continue;
    behaviour.crash_signal = number;
    return std::nullopt;
  }
  return "SEGV, ABRT, KILL, BUS or ILL";
}

std::string trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == text.npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1));
}

std::optional<std::string> apply_pair(std::string_view pair, Behaviour& given) {
  const size_t equals = pair.find('=');
  if (equals == pair.npos) return "script: no '=' in \"" + std::string(pair) + "\"";
  std::string name = trim(pair.substr(0, equals));
  const std::string value = trim(pair.substr(equals + 1));
  const size_t colon = name.find(':');
  const bool applies = colon == name.npos || name.substr(0, colon) == given.backend;
  if (colon != name.npos) name.erase(0, colon + 1);
  Behaviour other;  // What is for another backend is checked all the same.
  Behaviour& behaviour = applies ? given : other;

  std::optional<std::string> expected;
  bool known = false;
  if (name == "crash_signal") {
    known = true;
    expected = assign_signal(behaviour, value);
  }
  for (const Key& key : kKeys) {
    if (key.name != name) continue;
    known = true;
    expected = std::visit([&](auto field) { return assign(behaviour, field, value); }, key.field);
  }
  if (!known) return "script: unknown key \"" + name + "\"";
  if (expected) return "script: " + name + " must be " + *expected + ", not \"" + value + "\"";
  return std::nullopt;
}

// At most kMaxScriptBytes of the file; none if it cannot be opened.
std::optional<std::string> read_head_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(kMaxScriptBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

std::optional<std::string> apply_model_scripts(const std::string& model_path,
                                               Behaviour& behaviour) {
  const auto model = read_head_of_file(model_path);
  if (model && model->starts_with(kModelFileMark)) {
    const size_t rest = model->find('\n');
    if (rest != model->npos) {
      if (auto wrong = apply_script(model->substr(rest), behaviour)) return wrong;
    }
  }
  const auto neighbour = read_head_of_file(model_path + ".fake");
  return neighbour ? apply_script(*neighbour, behaviour) : std::nullopt;
}

}  // namespace

std::optional<std::string> apply_script(std::string_view script, Behaviour& behaviour) {
  if (script.size() > kMaxScriptBytes) return "script: longer than 64 KiB";
  std::string pair;
  const auto finish_pair = [&]() -> std::optional<std::string> {
    const std::string text = trim(std::exchange(pair, {}));
    if (text.empty() || text.front() == '#') return std::nullopt;
    return apply_pair(text, behaviour);
  };
  for (size_t at = 0; at < script.size(); ++at) {
    const char c = script[at];
    if (c == '\\' && at + 1 < script.size()) {
      const char escaped = script[++at];
      pair += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
    } else if (c == ';' || c == '\n') {
      if (auto wrong = finish_pair()) return wrong;
    } else {
      pair += c;
    }
  }
  return finish_pair();
}

std::optional<std::string> apply_process_scripts(const std::string& model_path,
                                                 Behaviour& behaviour) {
  if (const char* script = std::getenv("FAKE_ENGINE_SCRIPT")) {
    if (auto wrong = apply_script(script, behaviour)) return wrong;
  }
  if (const char* path = std::getenv("FAKE_ENGINE_SCRIPT_FILE")) {
    const auto script = read_head_of_file(path);
    if (!script) return std::string("FAKE_ENGINE_SCRIPT_FILE: cannot open ") + path;
    if (auto wrong = apply_script(*script, behaviour)) return wrong;
  }
  return model_path.empty() ? std::nullopt : apply_model_scripts(model_path, behaviour);
}

void note_in_journal(const Behaviour& behaviour, const std::string& what) {
  if (behaviour.journal.empty()) return;
  const int fd = open(behaviour.journal.c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return;
  const std::string line =
      (behaviour.backend.empty() ? "-" : behaviour.backend) + ' ' + what + '\n';
  [[maybe_unused]] const ssize_t written = write(fd, line.data(), line.size());
  close(fd);
}

bool may_strike(const Behaviour& behaviour) {
  if (behaviour.once_file.empty()) return true;
  const int fd = open(behaviour.once_file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  close(fd);
  return true;
}

}  // namespace fake_engine
