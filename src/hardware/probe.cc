#include "hardware/probe.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <poll.h>
#include <unistd.h>

#include <fmt/format.h>

#include "hardware/library_search.h"
#include "hardware/probe_process.h"

namespace yoke::hardware {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

std::string seconds_text(milliseconds time) {
  return time.count() % 1000 == 0 ? fmt::format("{} s", time.count() / 1000)
                                  : fmt::format("{} ms", time.count());
}

bool hides_devices_of(Source source, std::string_view variable) {
  switch (source) {
    case Source::kHip:
      return variable != "GGML_VK_VISIBLE_DEVICES";
    case Source::kCuda:
      return variable == "CUDA_VISIBLE_DEVICES";
    case Source::kVulkan:
      return variable == "GGML_VK_VISIBLE_DEVICES";
    case Source::kAmdSmi:
    case Source::kNvml:
    case Source::kKfd:
    case Source::kDrm:
      break;
  }
  return false;
}

// One source: its child while it runs, then its observation.
class Probe {
 public:
  Probe(Source source, const ProbeOptions& options,
        const std::vector<std::filesystem::path>& directories)
      : library_(library_of(source)), limit_(options.limit), start_(Clock::now()) {
    observation_.source = source;
    const auto candidates = find_libraries(source, directories);
    if (candidates.empty() || options.command.empty()) {
      finish(Outcome::kAbsent, options.command.empty()
                                   ? "Libraries were not asked."
                                   : fmt::format("{} is not installed.", library_));
      return;
    }
    note_hiding_variables();
    auto command = options.command;
    command.insert(command.end(),
                   {std::string(name_of(source)), std::to_string(ProbeProcess::kAnswerFd),
                    std::to_string(::getpid())});
    for (const auto& path : candidates) command.push_back(path.native());
    if (auto child = ProbeProcess::start(command)) {
      child_.emplace(std::move(*child));
    } else {
      finish(Outcome::kFailed,
             fmt::format("The probe of {} can't be started: {}.", library_, child.error().message));
    }
  }

  bool running() const { return child_.has_value(); }
  const ProbeProcess& child() const { return *child_; }
  Clock::time_point deadline() const { return start_ + limit_; }
  Observation take() { return std::move(observation_); }

  void update() {
    child_->update();
    if (child_->answer_too_long()) {
      finish(Outcome::kFailed,
             fmt::format("The probe of {} wrote more than 1 MiB and was ended.", library_));
    } else if (child_->answer_complete() && adopt_answer()) {
      finish(observation_.outcome, std::move(observation_.detail));
    } else if (child_->ended()) {
      finish(Outcome::kFailed, why_it_ended());
    } else if (Clock::now() >= deadline()) {
      finish(Outcome::kFailed, fmt::format("{} did not answer within {} and was left out.",
                                           library_, seconds_text(limit_)));
    }
  }

 private:
  void note_hiding_variables() {
    for (const auto variable : kHidingVariables) {
      if (!hides_devices_of(observation_.source, variable)) continue;
      if (std::getenv(std::string(variable).c_str()) == nullptr) continue;
      observation_.notes.push_back(fmt::format(
          "{} is set; it was ignored, so that every device is seen as it is.", variable));
    }
  }

  bool adopt_answer() {
    auto answer = parse_observation(child_->answer());
    if (!answer || answer->source != observation_.source) return false;
    answer->notes.insert(answer->notes.begin(), observation_.notes.begin(),
                         observation_.notes.end());
    observation_ = std::move(*answer);
    return true;
  }

  std::string why_it_ended() const {
    const std::string words = child_->last_words();
    const std::string said = words.empty() ? "" : fmt::format(" Its last words: \"{}\".", words);
    if (child_->signal()) {
      const char* const name = ::sigabbrev_np(*child_->signal());
      return fmt::format("{} crashed (SIG{}) and was left out.{}", library_,
                         name == nullptr ? std::to_string(*child_->signal()) : name, said);
    }
    return fmt::format("The probe of {} ended with exit code {} and {} answer.{}", library_,
                       child_->exit_code().value_or(-1),
                       child_->answer().empty() ? "without an" : "an unreadable", said);
  }

  void finish(Outcome outcome, std::string detail) {
    observation_.outcome = outcome;
    observation_.detail = std::move(detail);
    child_.reset();
    observation_.took = std::chrono::duration_cast<milliseconds>(Clock::now() - start_);
  }

  std::string_view library_;
  milliseconds limit_;
  Clock::time_point start_;
  std::optional<ProbeProcess> child_;
  Observation observation_;
};

// Waits until a child has something to say or the first of them is out of time.
void wait_for_any(const std::vector<Probe>& probes) {
  std::vector<pollfd> descriptors;
  auto until = Clock::time_point::max();
  for (const auto& probe : probes) {
    if (!probe.running()) continue;
    probe.child().add_to(descriptors);
    until = std::min(until, probe.deadline());
    if (probe.child().must_be_asked()) until = std::min(until, Clock::now() + milliseconds(10));
  }
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
  ::poll(descriptors.data(), descriptors.size(),
         static_cast<int>(std::clamp<long long>(left.count(), 0, 1000)));
}

}  // namespace

std::vector<Observation> run_probes(const std::vector<Source>& sources,
                                    const ProbeOptions& options) {
  const auto directories =
      options.library_dirs.empty() ? system_library_directories() : options.library_dirs;
  std::vector<Probe> probes;
  probes.reserve(sources.size());
  for (const Source source : sources) probes.emplace_back(source, options, directories);
  while (std::ranges::any_of(probes, &Probe::running)) {
    wait_for_any(probes);
    for (auto& probe : probes) {
      if (probe.running()) probe.update();
    }
  }
  std::vector<Observation> observations;
  for (auto& probe : probes) observations.push_back(probe.take());
  return observations;
}

}  // namespace yoke::hardware
