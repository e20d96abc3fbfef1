// ProbeProcess: sole owner of one probe's child. It is killed and reaped when its owner goes, and
// so is whatever it has started. Nothing waits here but the destructor, for the kernel. One thread
// at a time, which has to outlive the child (it dies with the thread that started it).
#pragma once

#include <chrono>
#include <optional>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace yoke::hardware {

// Variables that hide devices or rename them: the child does not get them.
inline constexpr std::string_view kHidingVariables[] = {
    "CUDA_VISIBLE_DEVICES",    "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",  "HSA_OVERRIDE_GFX_VERSION",
};

class ProbeProcess {
 public:
  // The descriptor on which the child answers.
  static constexpr int kAnswerFd = 3;
  static constexpr std::size_t kLongestAnswer = 1 << 20;

  // Runs command[0] with the rest as its arguments. kIo if it can't be started.
  static Result<ProbeProcess> start(const std::vector<std::string>& command);

  ProbeProcess(ProbeProcess&& other) noexcept;
  ProbeProcess& operator=(ProbeProcess&&) = delete;
  ~ProbeProcess();

  // What to poll for. Without a pidfd (an old kernel) the end is noticed by asking: poll briefly.
  void add_to(std::vector<pollfd>& descriptors) const;
  bool must_be_asked() const { return !pidfd_; }

  // Reads what has come and looks whether the child ended.
  void update();

  // All that it wrote, once it has closed the descriptor or ended.
  const std::string& answer() const { return answer_; }
  bool answer_complete() const { return !answer_fd_ || ended(); }
  bool answer_too_long() const { return answer_.size() > kLongestAnswer; }

  bool ended() const { return signal_ || exit_code_; }
  std::optional<int> signal() const { return signal_; }
  std::optional<int> exit_code() const { return exit_code_; }
  // The last line it wrote to stderr, at most 200 printable characters.
  std::string last_words() const;

 private:
  ProbeProcess() = default;

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd answer_fd_;
  UniqueFd message_fd_;  // Its stderr.
  std::string answer_;
  std::string messages_;
  std::optional<int> signal_;
  std::optional<int> exit_code_;
};

}  // namespace yoke::hardware
