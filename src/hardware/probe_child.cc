// The child's side of run_probes(). Its arguments: the source, the descriptor to answer on, the
// parent's process id, and the library's files in the order in which to try them.
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <optional>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "hardware/dynamic_library.h"
#include "hardware/library_probes.h"
#include "hardware/probe.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

constexpr int kUsage = 2;
constexpr int kCantAnswer = 3;

// A crash is to be seen as one by the parent, quickly and without traces on the disk.
void prepare_to_crash() {
  // Not 0: the kernel would still hand the core to a program, as core_pattern often says.
  const rlimit one_byte{1, 1};
  ::setrlimit(RLIMIT_CORE, &one_byte);
  for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP}) {
    ::signal(signal, SIG_DFL);
  }
}

// Dies with its parent, who may be gone already.
bool tie_to(pid_t parent) {
  return ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == parent;
}

Result<void> ask(const DynamicLibrary& library, Observation& observation) {
  switch (observation.source) {
    case Source::kAmdSmi:
      return probe_amd_smi(library, observation);
    case Source::kNvml:
      return probe_nvml(library, observation);
    case Source::kHip:
      return probe_hip(library, observation);
    case Source::kCuda:
      return probe_cuda(library, observation);
    case Source::kVulkan:
      return probe_vulkan(library, observation);
    case Source::kKfd:
    case Source::kDrm:
      break;
  }
  return fail(kInvalidArgument, "This detector has no library.");
}

// The first of the files that can be loaded, or why the last one can't.
Result<DynamicLibrary> load_first(const std::vector<std::string>& files, Observation& observation) {
  for (std::size_t i = 0; i + 1 < files.size(); ++i) {
    auto library = DynamicLibrary::open(files[i]);
    if (library) return library;
    observation.notes.push_back(library.error().message);
  }
  return DynamicLibrary::open(files.back());
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t size = ::write(fd, text.data(), text.size());
    if (size < 0 && errno != EINTR) return false;
    if (size > 0) text.remove_prefix(static_cast<std::size_t>(size));
  }
  return true;
}

}  // namespace

int run_probe_child(const std::vector<std::string>& arguments) {
  if (arguments.size() < 4) return kUsage;
  const auto source = source_of(arguments[0]);
  const auto descriptor = parse_digits(arguments[1], 10);
  const auto parent = parse_digits(arguments[2], 10);
  if (!source || !descriptor || *descriptor > 1023 || !parent) return kUsage;
  const int fd = static_cast<int>(*descriptor);
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return kUsage;
  UniqueFd answer(fd);
  prepare_to_crash();
  if (!tie_to(static_cast<pid_t>(*parent))) return kCantAnswer;

  Observation observation;
  observation.source = *source;
  // Stays loaded until the parent has the answer, as unloading runs foreign code too.
  const auto library = load_first({arguments.begin() + 3, arguments.end()}, observation);
  const auto result = library ? ask(*library, observation) : fail(library.error());
  if (!result) {
    observation.outcome = Outcome::kFailed;
    observation.detail = result.error().message;
    observation.devices.clear();
  } else {
    observation.outcome = observation.devices.empty() ? Outcome::kNoDevices : Outcome::kFound;
  }
  const bool written = write_all(answer.get(), to_json(observation));
  answer.reset();
  return written ? 0 : kCantAnswer;
}

}  // namespace yoke::hardware
