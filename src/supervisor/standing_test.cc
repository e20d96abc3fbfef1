#include "supervisor/standing.h"

#include <filesystem>
#include <memory>
#include <unistd.h>

#include <gtest/gtest.h>

namespace yoke::supervisor {
namespace {

using namespace std::chrono_literals;
using engines::FailureClass;

Engine engine(std::string backend, std::string version = "0.5.0", std::string driver = "") {
  Engine engine;
  engine.install.backend = std::move(backend);
  engine.install.version = std::move(version);
  engine.driver = std::move(driver);
  return engine;
}

// A state directory, and what one start of Yoke after another makes of it.
class StandingTest : public testing::Test {
 protected:
  StandingTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "yoke-standing-XXXXXX");
    dir_ = ::mkdtemp(pattern.data());
    start_yoke();
  }
  ~StandingTest() override {
    history_.reset();
    std::filesystem::remove_all(dir_);
  }

  void start_yoke() {
    history_.reset();
    auto opened = History::open(dir_);
    ASSERT_TRUE(opened) << opened.error().text();
    history_ = std::move(*opened);
  }
  Standing standing(const std::vector<Engine>& engines, const std::string& file = "file") {
    Standing standing("chat", engines, *history_);
    standing.look_at(file);
    return standing;
  }
  static FallbackDecision fail(Standing& standing, FailureClass cls, std::size_t engine = 0) {
    return standing.after(engine, {cls, true, 0ms, 0}, "It failed.", "a line");
  }

  std::filesystem::path dir_;
  std::unique_ptr<History> history_;
  const std::vector<Engine> engines_{engine("vulkan", "0.5.0", "RADV 25.2"), engine("cpu")};
};

TEST_F(StandingTest, BeginsWithTheBest) {
  const Standing fresh = standing(engines_);
  EXPECT_EQ(fresh.current(), 0u);
  EXPECT_EQ(fresh.left_out_for(0), 0ms);
}

TEST_F(StandingTest, AFailureOutlivesYoke) {
  Standing first = standing(engines_);
  EXPECT_EQ(fail(first, FailureClass::kGpuFault).remedy, Remedy::kNext);
  EXPECT_EQ(first.current(), 1u);
  start_yoke();
  const Standing second = standing(engines_);
  EXPECT_EQ(second.current(), 1u);
  EXPECT_GT(second.left_out_for(0), 9min);
  EXPECT_LE(second.left_out_for(0), FallbackPolicy::kFirstQuarantine);
  const auto failures = history_->failures("chat", 10);
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].failure, "gpu_fault");
  EXPECT_EQ(failures[0].message, "It failed.");
  EXPECT_EQ(failures[0].evidence, "a line");
  EXPECT_EQ(failures[0].of.driver, "RADV 25.2");
}

TEST_F(StandingTest, TheCountGoesOnInTheNextStart) {
  Standing first = standing(engines_);
  fail(first, FailureClass::kGpuFault);
  start_yoke();
  Standing second = standing(engines_);
  fail(second, FailureClass::kGpuFault);
  EXPECT_GT(second.left_out_for(0), FallbackPolicy::kFirstQuarantine);
}

TEST_F(StandingTest, ANewDriverEngineOrFileIsAnotherCase) {
  Standing first = standing(engines_);
  fail(first, FailureClass::kGpuFault);
  EXPECT_EQ(standing({engine("vulkan", "0.5.0", "RADV 25.3"), engine("cpu")}).current(), 0u);
  EXPECT_EQ(standing({engine("vulkan", "0.6.0", "RADV 25.2"), engine("cpu")}).current(), 0u);
  EXPECT_EQ(standing(engines_, "another file").current(), 0u);
  EXPECT_EQ(standing(engines_).current(), 1u);
}

TEST_F(StandingTest, ANewFileIsNoticedWhileItRuns) {
  Standing same = standing(engines_);
  fail(same, FailureClass::kGpuFault);
  same.look_at("file");
  EXPECT_EQ(same.current(), 1u);
  same.look_at("another file");
  EXPECT_EQ(same.current(), 0u);
}

TEST_F(StandingTest, ForgetsWhatIsCleared) {
  Standing known = standing(engines_);
  fail(known, FailureClass::kGpuFault);
  known.clear("rocm");
  EXPECT_EQ(known.current(), 1u);
  known.clear("vulkan");
  EXPECT_EQ(known.current(), 0u);
}

TEST_F(StandingTest, ALostDeviceMeansSmallBatchesInTheNextStartToo) {
  Standing first = standing(engines_);
  EXPECT_FALSE(first.smaller(0));
  EXPECT_EQ(fail(first, FailureClass::kDeviceLost).remedy, Remedy::kSmaller);
  EXPECT_TRUE(first.smaller(0));
  start_yoke();
  Standing second = standing(engines_);
  EXPECT_TRUE(second.smaller(0));
  EXPECT_FALSE(second.smaller(1));
  EXPECT_EQ(fail(second, FailureClass::kDeviceLost).remedy, Remedy::kNext);
}

TEST_F(StandingTest, AFailureOfTheFallbackIsNotTheBetterOnes) {
  Standing known = standing(engines_);
  fail(known, FailureClass::kGpuFault);
  known.clear("");  // As if its quarantine had ended while the CPU serves.
  fail(known, FailureClass::kCrash, 1);
  EXPECT_EQ(known.current(), 0u);
  EXPECT_EQ(history_->failures("chat", 1).at(0).of.backend, "cpu");
}

}  // namespace
}  // namespace yoke::supervisor
