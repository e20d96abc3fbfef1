// What the fake does: a script of `key=value` pairs. README.md lists the keys.
// Pure data; the process has one Behaviour, and each request works on a copy of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fake_engine {

// The value of a point in a reply that is never reached.
inline constexpr int64_t kNever = -1;

struct Behaviour {
  // Which backend this program plays: the name of the directory that it was started from. Not a
  // key; main sets it before the scripts are applied.
  std::string backend;

  // Command line.
  std::string version = "0 (fake)";
  std::string devices;     // The lines of --list-devices.
  std::string hide_flags;  // Comma-separated flags that this build does not know.

  // Life of the process.
  int64_t load_ms = 0;
  bool hang_on_load = false;
  bool crash_on_load = false;
  int64_t crash_after_ms = kNever;
  int64_t break_after_ms = kNever;
  int64_t exit_after_requests = kNever;
  int64_t max_lifetime_s = 3600;
  bool ignore_term = false;
  int64_t stop_ms = 0;
  int64_t spawn_children = 0;
  bool children_setsid = false;
  bool children_stay = false;
  int64_t log_flood_lines = 0;
  std::string load_log;

  // Connections and slots.
  int64_t keep_alive_ms = 5000;
  int64_t keep_alive_requests = 100;
  int64_t slots = 0;  // 0: what --parallel says.

  // Replies.
  int64_t prefill_ms = 0;
  int64_t tokens = 16;
  double tokens_per_s = 0;  // 0: as fast as the client reads.
  int64_t token_bytes = 0;  // 0: no padding.
  bool timestamps = false;
  int64_t ping_ms = 0;
  bool late_headers = false;
  bool no_content_length = false;
  int64_t big_header_bytes = 0;

  // Failures.
  int64_t crash_after_tokens = kNever;
  int64_t crash_signal = 0;  // 0: exit with crash_exit instead.
  int64_t crash_exit = kNever;
  std::string crash_log;
  int64_t hang_after_tokens = kNever;
  int64_t half_close_after_tokens = kNever;
  int64_t reset_after_tokens = kNever;
  int64_t garbage_chunk = kNever;
  int64_t error_after_tokens = kNever;
  bool garbage = false;
  int64_t status = 0;  // 0: no scripted error.
  std::string message;
  std::string once_file;
  bool stays_broken = false;

  // Saved slots: "", "short", "error", "hang" or "crash".
  std::string save_failure;
  std::string restore_failure;
  bool ram_cache = false;

  // What it computes: the probabilities of /completion.
  int64_t model_seed = 1;
  bool wrong_probs = false;

  std::string journal;  // A file that gets a line for each start and each request.
};

// Applies `key=value` pairs, separated by ';' or line ends, on top of `behaviour`. Returns what is
// wrong with the script, or nothing. Backslash escapes: \n \t \\ \; A pair "vulkan:key=value" is
// for that backend only.
std::optional<std::string> apply_script(std::string_view script, Behaviour& behaviour);

// The scripts that the process was started with: FAKE_ENGINE_SCRIPT, FAKE_ENGINE_SCRIPT_FILE, the
// model file and its neighbour `<model>.fake`; the later ones win. `model_path` may be empty.
std::optional<std::string> apply_process_scripts(const std::string& model_path,
                                                 Behaviour& behaviour);

// Says whether a scripted failure may strike now: always without once_file; with it only for the
// one caller, of all processes, that creates that file.
bool may_strike(const Behaviour& behaviour);

// Appends "<backend> <what>" to the scripted journal; one write, so that processes may share it.
void note_in_journal(const Behaviour& behaviour, const std::string& what);

}  // namespace fake_engine
