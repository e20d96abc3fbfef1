#include "doctor/own_files.h"

#include <gtest/gtest.h>

#include "doctor/diff.h"

namespace yoke::doctor {
namespace {

constexpr const char* kHeader =
    "# Written by `yoke doctor --fix`; `yoke doctor --undo` takes it back.\n";

Setting parameter(std::string key, std::string value) {
  return {Setting::Kind::kModuleParameter, std::move(key), std::move(value)};
}

TEST(OwnFileText, WritesOneLinePerSetting) {
  OwnFileText text(OwnFile::kModprobe, "");
  text.set(parameter("ttm.pages_limit", "31457280"));
  text.set(parameter("amdgpu.lockup_timeout", "10000,60000,10000,10000"));
  EXPECT_EQ(text.render(), std::string(kHeader) +
                               "options ttm pages_limit=31457280\n"
                               "options amdgpu lockup_timeout=10000,60000,10000,10000\n");
}

TEST(OwnFileText, WritesEachKindAsItsReaderWantsIt) {
  const auto line = [](OwnFile file, const Setting& setting) {
    OwnFileText text(file, "");
    text.set(setting);
    return text.render().substr(std::string(kHeader).size());
  };
  EXPECT_EQ(line(OwnFile::kGrub, parameter("ttm.pages_limit", "1")),
            "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT ttm.pages_limit=1\"\n");
  EXPECT_EQ(line(OwnFile::kLimits, {Setting::Kind::kMemoryLock, "@render", "unlimited"}),
            "@render - memlock unlimited\n");
  EXPECT_EQ(line(OwnFile::kSysctl, {Setting::Kind::kSysctl, "vm.swappiness", "10"}),
            "vm.swappiness = 10\n");
  EXPECT_EQ(line(OwnFile::kTmpfiles, {Setting::Kind::kTmpfile, "/sys/a/b", "madvise"}),
            "w /sys/a/b - - - - madvise\n");
  EXPECT_EQ(line(OwnFile::kUdev, {Setting::Kind::kUdevRule, "KERNEL==\"card0\"", ""}),
            "KERNEL==\"card0\"\n");
}

TEST(OwnFileText, ReadsBackWhatItWrote) {
  for (const OwnFile file : kOwnFiles) {
    const Setting setting = file == OwnFile::kUdev
                                ? Setting{Setting::Kind::kUdevRule, "A==\"b\", C=\"d\""}
                                : Setting{Setting::Kind::kModuleParameter, "a.b", "1"};
    OwnFileText text(file, "");
    text.set(setting);
    const std::string content = text.render();
    OwnFileText again(file, content);
    EXPECT_TRUE(again.has(setting)) << path_of(file);
    again.set(setting);
    EXPECT_EQ(again.render(), content) << path_of(file);
    if (file == OwnFile::kUdev) continue;
    again.set({setting.kind, setting.key, "2"});
    EXPECT_FALSE(again.has(setting)) << path_of(file);
    EXPECT_EQ(again.render().size(), content.size()) << "replaced, not added: " << path_of(file);
  }
}

TEST(OwnFileText, KeepsLinesOfOthers) {
  OwnFileText text(
      OwnFile::kModprobe,
      "# mine\n\noptions ttm pages_limit=1 page_pool_size=2\noptions ttm pages_limit=3");
  text.set(parameter("ttm.pages_limit", "4"));
  EXPECT_EQ(text.render(), std::string(kHeader) +
                               "# mine\noptions ttm pages_limit=1 page_pool_size=2\n"
                               "options ttm pages_limit=4\n");
}

TEST(OwnFiles, AreFoundByPath) {
  for (const OwnFile file : kOwnFiles) EXPECT_EQ(own_file_at(path_of(file)), file);
  EXPECT_FALSE(own_file_at("/etc/passwd"));
}

TEST(UnifiedDiff, ShowsWhatChanges) {
  EXPECT_EQ(unified_diff("/a", "1\n2\n3\n", "1\nx\n3\n4\n"),
            "--- /a\n+++ /a\n@@ -1,3 +1,4 @@\n 1\n-2\n+x\n 3\n+4\n");
  EXPECT_EQ(unified_diff("/a", std::nullopt, "1\n"),
            "--- /dev/null\n+++ /a\n@@ -0,0 +1,1 @@\n+1\n");
  EXPECT_EQ(unified_diff("/a", "1\n", std::nullopt),
            "--- /a\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-1\n");
  EXPECT_EQ(unified_diff("/a", "1\n", "1\n"), "");
}

TEST(UnifiedDiff, TakesLargeTextsAsReplaced) {
  std::string large;
  for (int i = 0; i < 3000; ++i) large += "line\n";
  const std::string diff = unified_diff("/a", large, large + "more\n");
  EXPECT_NE(diff.find("+more\n"), std::string::npos);
}

}  // namespace
}  // namespace yoke::doctor
