// run_probes() and libraries that misbehave. What each library answers: library_probes_test.cc.
#include "hardware/probe.h"

#include <csignal>
#include <fstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hardware/library_search.h"
#include "hardware/probe_test_support.h"

namespace yoke::hardware {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

const std::vector<Source> kAll{Source::kAmdSmi, Source::kNvml, Source::kHip, Source::kCuda,
                               Source::kVulkan};

std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

bool has_children() { return ::waitpid(-1, nullptr, WNOHANG) != -1 || errno != ECHILD; }

// False for a zombie too, which waits for nobody of ours.
bool is_alive(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  if (!std::getline(file, stat)) return false;
  return stat.at(stat.rfind(')') + 2) != 'Z';
}

template <class Condition>
bool soon(Condition&& condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(20));
  }
  return condition();
}

// Where a fake library writes the process id that a test has to know.
class PidFile {
 public:
  PidFile() : variable_("FAKE_PID_FILE", path_.native()) { fs::remove(path_); }
  ~PidFile() { fs::remove(path_); }
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;

  pid_t read() const {
    pid_t pid = 0;
    std::ifstream(path_) >> pid;
    return pid;
  }

 private:
  fs::path path_ = fs::temp_directory_path() / ("yoke_pid_" + std::to_string(::getpid()));
  Variable variable_;
};

class AnyLibrary : public ::testing::TestWithParam<Source> {
 protected:
  AnyLibrary() : descriptors_(open_descriptors()) {}
  ~AnyLibrary() override {
    EXPECT_FALSE(has_children());
    EXPECT_EQ(open_descriptors(), descriptors_);
  }

  Source source() const { return GetParam(); }
  std::string library() const { return std::string(library_of(source())); }
  Observation probe(const char* mode, const char* which = "current") const {
    return probe_fake(source(), mode, which);
  }
  // Failed, with a detail that begins so.
  void expect_failed(const Observation& observation, const std::string& beginning) const {
    EXPECT_EQ(observation.source, source());
    EXPECT_EQ(observation.outcome, Outcome::kFailed);
    EXPECT_THAT(observation.detail, StartsWith(beginning));
    EXPECT_THAT(observation.devices, IsEmpty());
  }

 private:
  std::size_t descriptors_;
};

TEST_P(AnyLibrary, AnswersFromEachAbi) {
  for (const char* const abi : {"old", "current", "new"}) {
    const auto observation = probe("ok", abi);
    EXPECT_EQ(observation.outcome, Outcome::kFound) << abi << ": " << observation.detail;
    EXPECT_THAT(observation.detail, IsEmpty());
    EXPECT_THAT(observation.version, Not(IsEmpty()));
    EXPECT_FALSE(observation.devices.empty());
  }
}

TEST_P(AnyLibrary, NoDevicesIsNoFailure) {
  const auto observation = probe("none");
  EXPECT_EQ(observation.outcome, Outcome::kNoDevices) << observation.detail;
  EXPECT_THAT(observation.devices, IsEmpty());
}

TEST_P(AnyLibrary, AnErrorCodeIsAFailure) {
  const auto observation = probe("error");
  EXPECT_EQ(observation.outcome, Outcome::kFailed);
  EXPECT_THAT(observation.detail, HasSubstr("did not start: "));
  EXPECT_THAT(observation.devices, IsEmpty());
}

TEST_P(AnyLibrary, ACrashIsNamed) {
  expect_failed(probe("crash"), library() +
                                    " crashed (SIGSEGV) and was left out. Its last words: \"the "
                                    "last thing it said\".");
  expect_failed(probe("abort"), library() + " crashed (SIGABRT) and was left out.");
}

TEST_P(AnyLibrary, AHangEndsAtTheLimit) {
  const PidFile hanging;
  const Variable behaviour(behaviour_of(source()), "hang");
  const auto observation = run_probes({source()}, with_fakes("current", milliseconds(300))).at(0);
  expect_failed(observation, library() + " did not answer within 300 ms and was left out.");
  EXPECT_GE(observation.took, milliseconds(300));
  EXPECT_LT(observation.took, milliseconds(2000));
  if (const pid_t pid = hanging.read(); pid != 0) {
    EXPECT_FALSE(is_alive(pid));
  }
}

TEST_P(AnyLibrary, MayPrintAsItLikes) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const auto observation = probe("print");
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), IsEmpty());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), IsEmpty());
  EXPECT_EQ(observation.outcome, Outcome::kFound) << observation.detail;
}

TEST_P(AnyLibrary, NonsenseOnTheAnswersDescriptorIsAFailure) {
  expect_failed(probe("scribble"),
                "The probe of " + library() + " ended with exit code 0 and an unreadable answer.");
  expect_failed(probe("flood"), "The probe of " + library() + " wrote more than 1 MiB");
}

TEST_P(AnyLibrary, MayEndTheProcess) {
  expect_failed(probe("exit"),
                "The probe of " + library() + " ended with exit code 7 and without an answer.");
}

TEST_P(AnyLibrary, NonsenseInItsAnswersIsPassedOver) {
  const auto observation = probe("garbage");
  EXPECT_EQ(observation.outcome, Outcome::kFound) << observation.detail;
  for (const auto& device : observation.devices) {
    EXPECT_FALSE(device.pci_address) << *device.pci_address;
    EXPECT_FALSE(device.gfx) << *device.gfx;
    for (const char c : device.name.value_or("")) EXPECT_EQ(c, '?');
  }
}

TEST_P(AnyLibrary, DevicesAreCounted) {
  const auto observation = probe("many");
  EXPECT_EQ(observation.outcome, Outcome::kFound) << observation.detail;
  // AMD SMI's first processor is no GPU.
  EXPECT_EQ(observation.devices.size(), source() == Source::kAmdSmi ? 127u : 128u);
  EXPECT_THAT(observation.notes,
              ::testing::Contains("Only the first 128 of 300 devices are listed."));
}

TEST_P(AnyLibrary, MissingFunctionsAreNamed) {
  const auto observation = probe("ok", "lacking");
  EXPECT_EQ(observation.outcome, Outcome::kFailed);
  EXPECT_THAT(observation.detail, AllOf(StartsWith(library()), HasSubstr("has no function ")));
}

TEST_P(AnyLibrary, AbsentItCostsNoProcess) {
  auto options = with_fakes("none-there");
  options.command = {"/nonexistent/program"};  // It would fail if it were started.
  const auto observation = run_probes({source()}, options).at(0);
  EXPECT_EQ(observation.source, source());
  EXPECT_EQ(observation.outcome, Outcome::kAbsent);
  EXPECT_EQ(observation.detail, library() + " is not installed.");
}

TEST_P(AnyLibrary, ProcessesThatItStartedAreEnded) {
  const PidFile left;
  const auto observation = probe("leave");
  EXPECT_EQ(observation.outcome, Outcome::kFound) << observation.detail;
  ASSERT_NE(left.read(), 0);
  EXPECT_TRUE(soon([&] { return !is_alive(left.read()); }));
}

INSTANTIATE_TEST_SUITE_P(Probe, AnyLibrary, ::testing::ValuesIn(kAll),
                         [](const auto& each) { return behaviour_of(each.param).substr(5); });

TEST(Probe, ChildrenRunSideBySide) {
  std::vector<std::unique_ptr<Variable>> behaviour;
  for (const auto source : {Source::kAmdSmi, Source::kHip, Source::kVulkan}) {
    behaviour.push_back(std::make_unique<Variable>(behaviour_of(source), "hang"));
  }
  const auto start = std::chrono::steady_clock::now();
  const auto observations = run_probes(kAll, with_fakes("current", milliseconds(1000)));
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(2000));

  ASSERT_EQ(observations.size(), 5u);
  for (std::size_t i = 0; i < kAll.size(); ++i) EXPECT_EQ(observations[i].source, kAll[i]);
  EXPECT_EQ(observations[0].outcome, Outcome::kFailed);
  EXPECT_EQ(observations[1].outcome, Outcome::kFound) << observations[1].detail;
  EXPECT_EQ(observations[2].outcome, Outcome::kFailed);
  EXPECT_EQ(observations[3].outcome, Outcome::kFound) << observations[3].detail;
  EXPECT_EQ(observations[4].outcome, Outcome::kFailed);
  EXPECT_FALSE(has_children());
}

TEST(Probe, VariablesThatHideDevicesAreIgnoredAndTold) {
  const Variable cuda("CUDA_VISIBLE_DEVICES", "");
  const Variable version("HSA_OVERRIDE_GFX_VERSION", "11.0.0");
  const Variable behaviour("FAKE_HIP", "environment");
  const auto observations = run_probes(kAll, with_fakes("current"));
  EXPECT_THAT(observations[0].notes, IsEmpty());
  EXPECT_THAT(observations[1].notes, IsEmpty());
  EXPECT_THAT(observations[2].notes,
              ::testing::ElementsAre(StartsWith("CUDA_VISIBLE_DEVICES is set"),
                                     StartsWith("HSA_OVERRIDE_GFX_VERSION is set")));
  EXPECT_THAT(observations[3].notes,
              ::testing::ElementsAre(StartsWith("CUDA_VISIBLE_DEVICES is set")));
  EXPECT_THAT(observations[4].notes, IsEmpty());
  // The fake names its device after what it finds in its environment.
  EXPECT_EQ(observations[2].devices.at(0).name, "VK_LOADER_LAYERS_DISABLE=~implicit~");
}

TEST(Probe, AProgramThatCannotBeStartedIsAFailure) {
  auto options = with_fakes("current");
  options.command = {"/nonexistent/program"};
  const auto observation = run_probes({Source::kNvml}, options).at(0);
  EXPECT_EQ(observation.outcome, Outcome::kFailed);
  EXPECT_EQ(observation.detail,
            "The probe of libnvidia-ml.so can't be started: /nonexistent/program: No such file or "
            "directory.");
}

TEST(Probe, AnotherProgramThanTheProbeIsAFailure) {
  auto options = with_fakes("current");
  options.command = {"/bin/true"};
  const auto observation = run_probes({Source::kNvml}, options).at(0);
  EXPECT_EQ(observation.outcome, Outcome::kFailed);
  EXPECT_THAT(observation.detail, HasSubstr("ended with exit code 0 and without an answer"));
}

TEST(Probe, WithoutACommandNothingIsAsked) {
  auto options = with_fakes("current");
  options.command.clear();
  for (const auto& observation : run_probes(kAll, options)) {
    EXPECT_EQ(observation.outcome, Outcome::kAbsent);
  }
  EXPECT_THAT(run_probes({}, with_fakes("current")), IsEmpty());
}

TEST(Probe, AFileThatIsNoLibraryIsTriedAndTold) {
  std::string name = (fs::temp_directory_path() / "yoke_probe_XXXXXX").native();
  const fs::path directory = ::mkdtemp(name.data());
  std::ofstream(directory / "libamdhip64.so.99") << "no ELF";
  auto options = with_fakes("current");
  options.library_dirs.insert(options.library_dirs.begin(), directory);
  const auto next = run_probes({Source::kHip}, options).at(0);
  options.library_dirs = {directory};
  const auto alone = run_probes({Source::kHip}, options).at(0);
  fs::remove_all(directory);

  EXPECT_EQ(next.outcome, Outcome::kFound) << next.detail;
  ASSERT_EQ(next.notes.size(), 1u);
  EXPECT_THAT(next.notes[0], HasSubstr("libamdhip64.so.99 can't be loaded: "));
  EXPECT_EQ(alone.outcome, Outcome::kFailed);
  EXPECT_THAT(alone.detail, HasSubstr("libamdhip64.so.99 can't be loaded: "));
}

TEST(Probe, ChildrenDieWithYoke) {
  const PidFile hanging;
  const Variable behaviour("FAKE_CUDA", "hang");
  const pid_t yoke = ::fork();
  if (yoke == 0) {
    run_probes({Source::kCuda}, with_fakes("current"));
    ::_exit(0);
  }
  EXPECT_TRUE(soon([&] { return hanging.read() != 0; }));
  const pid_t child = hanging.read();
  EXPECT_TRUE(is_alive(child));
  ::kill(yoke, SIGKILL);
  ASSERT_EQ(::waitpid(yoke, nullptr, 0), yoke);
  EXPECT_TRUE(soon([&] { return !is_alive(child); }));
}

TEST(ProbeChild, RefusesWrongArguments) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"nvml", "3"},
                                                    {"nvml", "3", "1"},
                                                    {"torch", "3", "1", "/x"},
                                                    {"nvml", "x", "1", "/x"},
                                                    {"nvml", "-1", "1", "/x"},
                                                    {"nvml", "99999", "1", "/x"},
                                                    {"nvml", "3", "", "/x"},
                                                    {"nvml", "1000", "1", "/x"}}) {
    EXPECT_EQ(run_probe_child(arguments), 2);
  }
}

}  // namespace
}  // namespace yoke::hardware
