#include "doctor/apply.h"

#include <fstream>
#include <iterator>
#include <map>
#include <sys/stat.h>
#include <sys/wait.h>

#include <gtest/gtest.h>

#include "doctor/command.h"
#include "doctor/manifest.h"
#include "hardware/test_support.h"

namespace yoke::doctor {
namespace {

using hardware::FakeRoot;

constexpr const char* kModprobe = "/etc/modprobe.d/yoke.conf";
constexpr const char* kLimits = "/etc/security/limits.d/yoke.conf";
constexpr const char* kSysctl = "/etc/sysctl.d/yoke.conf";

// All that is in a tree: names, kinds, permissions, contents.
std::map<std::string, std::string> snapshot(const FakeRoot& root) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> entries;
  for (const auto& entry : fs::recursive_directory_iterator(root.path())) {
    const fs::file_status status = entry.symlink_status();
    std::string text = std::to_string(static_cast<int>(status.type())) + " " +
                       std::to_string(static_cast<unsigned>(status.permissions())) + " ";
    if (fs::is_regular_file(status)) {
      std::ifstream in(entry.path(), std::ios::binary);
      text.append(std::istreambuf_iterator<char>(in), {});
    }
    entries[entry.path().lexically_relative(root.path()).string()] = std::move(text);
  }
  return entries;
}

struct Fixture : testing::Test {
  Fixture() {
    root.make_directory("/var/lib");
    root.make_directory("/etc/modprobe.d");
    // Somebody's own file of the same name, with bytes that are no text.
    root.write(kSysctl, "vm.swappiness = 30\n# \xff\xc3\x28 \"quoted\"\n");
    std::filesystem::permissions(root.at(kSysctl), std::filesystem::perms{0640});
    before = snapshot(root);
    plan.changes = {{kModprobe, std::nullopt, "options ttm pages_limit=1\n"},
                    {kSysctl, read(kSysctl), "vm.swappiness = 10\n"},
                    {kLimits, std::nullopt, "@render - memlock unlimited\n"}};
    plan.commands = {{"update-initramfs", "-u", "-k", "all"}};
    options.root = root.path();
    options.print = [this](std::string_view text) { printed += text; };
    options.confirm = [this](std::string_view) -> Result<bool> {
      ++asked;
      return answer;
    };
  }

  std::string read(const std::string& path) const {
    std::ifstream in(root.at(path), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  Outcome apply_plan() { return apply(plan, options).value(); }
  Outcome undo_all() { return undo(distribution, options).value(); }

  FakeRoot root;
  std::map<std::string, std::string> before;
  FixPlan plan;
  ApplyOptions options;
  Distribution distribution{.family = Distribution::Family::kDebian,
                            .initramfs = Distribution::Initramfs::kUpdateInitramfs};
  std::string printed;
  bool answer = true;
  int asked = 0;
};

using Apply = Fixture;

TEST_F(Apply, WritesAndTakesBackEverything) {
  EXPECT_EQ(apply_plan(), Outcome::kDone);
  EXPECT_EQ(read(kModprobe), "options ttm pages_limit=1\n");
  EXPECT_EQ(read(kLimits), "@render - memlock unlimited\n");
  EXPECT_EQ(read(kSysctl), "vm.swappiness = 10\n");
  struct stat status{};
  ASSERT_EQ(::stat(root.at(kModprobe).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0644u);
  ASSERT_EQ(::stat(root.at(kSysctl).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  EXPECT_NE(printed.find("+options ttm pages_limit=1\n"), std::string::npos);
  EXPECT_NE(printed.find("-vm.swappiness = 30\n"), std::string::npos);
  EXPECT_NE(printed.find("Would run: update-initramfs -u -k all\n"), std::string::npos);
  EXPECT_EQ(undo_all(), Outcome::kDone);
  EXPECT_EQ(snapshot(root), before);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(undo_all(), Outcome::kNothingToDo);
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, DoesNothingWhenRefused) {
  answer = false;
  EXPECT_EQ(apply_plan(), Outcome::kDeclined);
  EXPECT_EQ(snapshot(root), before);
  options.confirm = [](std::string_view) -> Result<bool> { return fail(kIo, "No terminal."); };
  EXPECT_FALSE(apply(plan, options));
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, ARefusedUndoLeavesTheChanges) {
  apply_plan();
  const auto changed = snapshot(root);
  answer = false;
  EXPECT_EQ(undo_all(), Outcome::kDeclined);
  EXPECT_EQ(snapshot(root), changed);
}

TEST_F(Apply, NothingToDoAsksNothing) {
  plan.changes.clear();
  EXPECT_EQ(apply_plan(), Outcome::kNothingToDo);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(undo_all(), Outcome::kNothingToDo);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, UndoGoesBackToBeforeTheFirstOfSeveralRuns) {
  apply_plan();
  plan.changes = {{kModprobe, read(kModprobe), "options ttm pages_limit=2\n"}};
  apply_plan();
  plan.changes = {{kModprobe, read(kModprobe), "options ttm pages_limit=3\n"}};
  apply_plan();
  undo_all();
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, ACrashAnywhereCanBeTakenBack) {
  for (int last_step = 0;; ++last_step) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int step = 0;
      options.before_change = [&](std::string_view) {
        if (step++ == last_step) ::_exit(7);
      };
      ::_exit(apply(plan, options) ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    const bool finished = WEXITSTATUS(status) == 0;
    ASSERT_TRUE(finished || WEXITSTATUS(status) == 7);
    undo_all();
    EXPECT_EQ(snapshot(root), before) << "crashed before step " << last_step;
    if (finished) {
      EXPECT_EQ(last_step, 5);  // The manifest, three files, the manifest; then it is through.
      break;
    }
  }
}

TEST_F(Apply, ACrashWhileTakingBackCanBeTakenUpAgain) {
  for (int last_step = 0;; ++last_step) {
    apply_plan();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int step = 0;
      options.before_change = [&](std::string_view) {
        if (step++ == last_step) ::_exit(7);
      };
      ::_exit(undo(distribution, options) ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    const bool finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    undo_all();
    EXPECT_EQ(snapshot(root), before) << "crashed before step " << last_step;
    if (finished) break;
  }
}

TEST_F(Apply, ACrashInTheMiddleOfAFileLeavesNothing) {
  apply_plan();
  root.write(std::string(kModprobe) + ".yoke-unfinished", "half");
  root.write(std::string(kManifestPath) + ".yoke-unfinished", "half");
  undo_all();
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, TheNextRunAfterACrashGoesOn) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    options.before_change = [](std::string_view path) {
      if (path == kSysctl) ::_exit(0);
    };
    (void)apply(plan, options);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  plan.changes[0].before = read(kModprobe);
  plan.changes[0].after = "options ttm pages_limit=5\n";
  EXPECT_EQ(apply_plan(), Outcome::kDone);
  undo_all();
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, UndoKeepsWhatSomebodyElseWrote) {
  apply_plan();
  root.write(kModprobe, "options ttm pages_limit=7\n");
  const auto changed = snapshot(root);
  const auto refused = undo(distribution, options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kDoctorFileChanged);
  EXPECT_NE(refused.error().message.find(kModprobe), std::string::npos);
  EXPECT_EQ(snapshot(root), changed);
  options.force = true;
  EXPECT_EQ(undo_all(), Outcome::kDone);
  EXPECT_EQ(read("/var/lib/yoke/doctor/kept/etc_modprobe.d_yoke.conf.1"),
            "options ttm pages_limit=7\n");
  root.remove("/var/lib/yoke");
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, UndoAcceptsAFileThatSomebodyRemoved) {
  apply_plan();
  root.remove(kModprobe);
  EXPECT_EQ(undo_all(), Outcome::kDone);
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, FixKeepsWhatSomebodyElseWrote) {
  apply_plan();
  root.write(kModprobe, "options ttm pages_limit=7\n");
  plan.changes = {{kModprobe, "options ttm pages_limit=7\n", "options ttm pages_limit=2\n"}};
  const auto refused = apply(plan, options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kDoctorFileChanged);
  EXPECT_EQ(read(kModprobe), "options ttm pages_limit=7\n");
  options.force = true;
  EXPECT_EQ(apply_plan(), Outcome::kDone);
  EXPECT_EQ(read("/var/lib/yoke/doctor/kept/etc_modprobe.d_yoke.conf.1"),
            "options ttm pages_limit=7\n");
}

TEST_F(Apply, NoticesAChangeWhileItAsked) {
  options.confirm = [this](std::string_view) -> Result<bool> {
    root.write(kSysctl, "vm.swappiness = 99\n");
    return true;
  };
  const auto refused = apply(plan, options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kDoctorFileChanged);
  EXPECT_EQ(read(kSysctl), "vm.swappiness = 99\n");
  EXPECT_FALSE(std::filesystem::exists(root.at(kModprobe)));
}

TEST_F(Apply, NeverWritesThroughALinkOutOfTheRoot) {
  const FakeRoot outside;
  outside.files();
  root.remove("/etc/modprobe.d");
  std::filesystem::create_directory_symlink(outside.path(), root.at("/etc/modprobe.d"));
  const auto refused = apply(plan, options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kIo);
  EXPECT_TRUE(std::filesystem::is_empty(outside.path()));
}

TEST_F(Apply, RefusesWhatIsNoFile) {
  root.make_directory(kModprobe);
  EXPECT_FALSE(apply(plan, options));
  root.remove(kModprobe);
  root.link(kModprobe, "../passwd");
  EXPECT_FALSE(apply(plan, options));
  EXPECT_FALSE(std::filesystem::exists(root.at("/etc/passwd")));
}

TEST_F(Apply, RunsTheCommandsAndReportsTheFailed) {
  std::vector<std::string> ran;
  options.run = [&](const Command& command) -> Result<void> {
    ran.push_back(to_string(command));
    if (command[0] == "update-initramfs") return fail(kIo, "No space left.");
    return {};
  };
  plan.commands.push_back({"update-grub"});
  const auto failed = apply(plan, options);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, kDoctorCommandFailed);
  EXPECT_NE(failed.error().message.find("`update-initramfs -u -k all` failed: No space left."),
            std::string::npos);
  EXPECT_EQ(ran, (std::vector<std::string>{"update-initramfs -u -k all", "update-grub"}));
  EXPECT_EQ(read(kModprobe), "options ttm pages_limit=1\n");
  options.run = [&](const Command& command) -> Result<void> {
    ran.push_back("undo " + to_string(command));
    return {};
  };
  undo_all();
  EXPECT_EQ(ran.back(), "undo update-initramfs -u -k all");
  EXPECT_EQ(snapshot(root), before);
}

TEST_F(Apply, OnlyOneAtATime) {
  options.before_change = [this](std::string_view) {
    ApplyOptions second = options;
    second.before_change = {};
    const auto refused = undo(distribution, second);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, kIo);
  };
  EXPECT_EQ(apply_plan(), Outcome::kDone);
}

TEST_F(Apply, RefusesAManifestThatIsNotItsOwn) {
  for (
      const char* text :
      {"", "x", "[]", "{}", R"({"files":[1],"made_directories":[]})",
       R"({"files":[{"path":"/etc/passwd","original":null,"written":["x"]}],"made_directories":[]})",
       R"({"files":[{"path":"/etc/modprobe.d/yoke.conf","original":{"content":"\u4e00"},"written":[]}],"made_directories":[]})",
       R"({"files":[{"path":"/etc/modprobe.d/yoke.conf","original":{},"written":[]}],"made_directories":[]})",
       R"({"files":[]})"}) {
    root.write(kManifestPath, text);
    const auto refused = undo(distribution, options);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code, kDoctorBackupInvalid) << text;
    EXPECT_FALSE(apply(plan, options)) << text;
    EXPECT_FALSE(std::filesystem::exists(root.at(kModprobe))) << text;
  }
}

TEST(ApplyToThisMachine, NeedsRoot) {
  const auto refused = undo({}, {.root = "/", .print = [](auto) {}, .confirm = {}, .user = 1000});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kDoctorNeedsRoot);
}

TEST(RunCommand, ReportsHowItEnded) {
  EXPECT_TRUE(run_command({"true"}));
  EXPECT_NE(run_command({"sh", "-c", "exit 3"}).error().message.find("exit code 3"),
            std::string::npos);
  EXPECT_NE(run_command({"/no/such/program"}).error().message.find("can't be started"),
            std::string::npos);
  EXPECT_FALSE(run_command({"sh", "-c", "read line"})) << "it has no input";
  EXPECT_EQ(
      run_command({"sh", "-c", "sleep 60 & sleep 60"}, std::chrono::milliseconds(100)).error().code,
      kTimeout);
  EXPECT_FALSE(run_command({}));
}

}  // namespace
}  // namespace yoke::doctor
