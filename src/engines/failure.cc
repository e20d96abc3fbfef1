#include "engines/failure.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <csignal>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "engines/failure_rules.h"
#include "engines/rpc_client.h"

namespace yoke::engines {
namespace {

using enum FailureClass;

bool matches(std::string_view line, std::string_view pattern) {
  while (true) {
    const std::size_t star = pattern.find('*');
    const std::size_t at = line.find(pattern.substr(0, star));
    if (at == std::string_view::npos) return false;
    if (star == std::string_view::npos) return true;
    line.remove_prefix(at + star);
    pattern.remove_prefix(star + 1);
  }
}

// "0.00.110.615 E srv  load_model: ..." without the time and the level.
std::string_view without_llama_prefix(std::string_view line) {
  const std::size_t end = line.find(' ');
  if (end == std::string_view::npos || line.size() < end + 3 || line[end + 2] != ' ') return line;
  const std::string_view stamp = line.substr(0, end);
  const bool time = std::count(stamp.begin(), stamp.end(), '.') == 3 &&
                    stamp.find_first_not_of("0123456789.") == std::string_view::npos;
  return time && std::isupper(static_cast<unsigned char>(line[end + 1])) != 0 ? line.substr(end + 3)
                                                                              : line;
}

// "(Worker pid=31) ERROR 11-22 21:17:04 [executor.py:953] ..." without what stands before the text.
std::string_view without_vllm_prefix(std::string_view line) {
  constexpr std::array<std::string_view, 5> kLevels{"DEBUG ", "INFO ", "WARNING ", "ERROR ",
                                                    "CRITICAL "};
  if (const std::size_t end = line.find(") ");
      line.starts_with('(') && line.substr(0, end).find(" pid=") != std::string_view::npos) {
    line.remove_prefix(end == std::string_view::npos ? 0 : end + 2);
  }
  const bool logged = std::ranges::any_of(
      kLevels, [line](std::string_view level) { return line.starts_with(level); });
  const std::size_t place = logged ? line.find(" [") : std::string_view::npos;
  const std::size_t end = place == std::string_view::npos ? place : line.find("] ", place);
  return end == std::string_view::npos ? line : line.substr(end + 2);
}

std::string_view without_prefix(std::string_view line) {
  return without_vllm_prefix(without_llama_prefix(line));
}

// A line of code in a Python traceback: what it raised stands below.
bool is_code(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return text.starts_with("raise ");
}

std::span<const std::string> after_what_was_overcome(std::span<const std::string> lines) {
  for (std::size_t i = lines.size(); i > 0; --i) {
    const bool overcome = std::ranges::any_of(overcome_marks(), [&](std::string_view mark) {
      return lines[i - 1].find(mark) != std::string::npos;
    });
    if (overcome) return lines.subspan(i);
  }
  return lines;
}

std::string summary_for(const FailureRule& rule, std::string_view line) {
  if (rule.cls == kWorkerLost) {
    if (const auto worker = lost_worker(line)) return describe(*worker);
  }
  return std::string(rule.summary.empty() ? summary_of(rule.cls) : rule.summary);
}

std::optional<Failure> first_match(std::span<const FailureRule> rules,
                                   std::span<const std::string> lines) {
  for (const FailureRule& rule : rules) {
    for (const std::string& line : lines) {
      if (!matches(line, rule.pattern)) continue;
      const std::string_view text = without_prefix(line);
      if (is_code(text)) continue;
      return Failure{rule.cls, summary_for(rule, text), std::string(text)};
    }
  }
  return std::nullopt;
}

std::optional<Failure> failure_in_log(std::span<const std::string> lines) {
  if (auto failure = first_match(llama_cpp_failures(), lines)) return failure;
  return first_match(vllm_failures(), lines);
}

// The last line that says something.
std::string last_words(std::span<const std::string> lines) {
  for (std::size_t i = lines.size(); i > 0; --i) {
    const std::string_view line = without_prefix(lines[i - 1]);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) return std::string(line);
  }
  return {};
}

// A wrapper script reports a signal as 128 + its number.
int signal_of(const ExitStatus& status) {
  return status.signal != 0 ? status.signal : std::max(0, status.code - 128);
}

Failure failure_of_status(const ExitStatus& status, Phase phase) {
  const int signal = signal_of(status);
  if (phase == Phase::kStopping) {
    return {kCrash, fmt::format("The engine did not stop cleanly: {}.", status.describe()), {}};
  }
  if (signal == SIGKILL) {
    return {kOutOfMemory,
            "The engine was killed from outside, most often by the kernel because memory ran out "
            "(see `dmesg`): lower n_ctx, choose a smaller model, or unload another one.",
            {}};
  }
  if (signal == SIGILL) {
    return {kCrash,
            "The engine uses instructions that this CPU lacks: run `make engine` again, or set "
            "llama_server in [engines] to one built for this machine.",
            {}};
  }
  if (signal == 0 && (status.code == 126 || status.code == 127)) {
    return {kLoadFailed,
            "The engine's program could not be executed: run `make engine` again, or correct "
            "llama_server in [engines].",
            {}};
  }
  if (signal == 0 && phase == Phase::kStarting) {
    return {kLoadFailed, std::string(summary_of(kLoadFailed)), {}};
  }
  return {kCrash,
          fmt::format("The engine ended with {}: see its log with `yoke logs`.", status.describe()),
          {}};
}

}  // namespace

std::string_view name_of(FailureClass cls) {
  switch (cls) {
    case kBadModel:
      return "bad_model";
    case kBadArguments:
      return "bad_arguments";
    case kPortTaken:
      return "port_taken";
    case kOutOfMemory:
      return "out_of_memory";
    case kDeviceLost:
      return "device_lost";
    case kGpuFault:
      return "gpu_fault";
    case kGpuHang:
      return "gpu_hang";
    case kWrongOutput:
      return "wrong_output";
    case kCrash:
      return "crash";
    case kLoadFailed:
      return "load_failed";
    case kStartTimeout:
      return "start_timeout";
    case kWorkerLost:
      return "worker_lost";
  }
  return "unknown";
}

std::string_view summary_of(FailureClass cls) {
  switch (cls) {
    case kBadModel:
      return "The model file can't be loaded: check model_path, or download the file again.";
    case kBadArguments:
      return "The engine refused an option: correct the model's extra_args.";
    case kPortTaken:
      return "The engine's port was taken by another program.";
    case kOutOfMemory:
      return "Memory ran out: lower n_ctx or n_ubatch, choose a smaller model, or unload another "
             "one.";
    case kDeviceLost:
      return "The GPU's driver gave up the engine's work: lower n_ubatch, or update the driver.";
    case kGpuFault:
      return "The GPU's driver reported a fault: update the driver, or use another backend.";
    case kGpuHang:
      return "The GPU hung: lower n_ubatch, update the driver, or use another backend.";
    case kWrongOutput:
      return "The engine computes wrong answers on this backend: use another one.";
    case kCrash:
      return "The engine crashed: see its log with `yoke logs`.";
    case kLoadFailed:
      return "The engine could not load the model: see its log with `yoke logs`.";
    case kStartTimeout:
      return "The model was not ready in time: see its log with `yoke logs`.";
    case kWorkerLost:
      return "A worker is lost: see that its machine, its ggml-rpc-server and the tunnel to it are "
             "up.";
  }
  return "The engine failed.";
}

Failure classify_failure(const ExitStatus& status, std::span<const std::string> last_log_lines,
                         Phase phase) {
  const auto lines = after_what_was_overcome(last_log_lines);
  if (auto failure = failure_in_log(lines)) return *std::move(failure);
  Failure failure = failure_of_status(status, phase);
  failure.evidence_line = last_words(lines);
  return failure;
}

bool says_engine_is_broken(std::string_view message) {
  return std::ranges::any_of(broken_marks(), [message](std::string_view mark) {
    return message.find(mark) != std::string_view::npos;
  });
}

}  // namespace yoke::engines
