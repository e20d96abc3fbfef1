#include "config/machines_file.h"

#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/config.h"

namespace yoke::config {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

Result<MachinesFile> parse(std::string_view text) { return parse_machines(text, "m.toml"); }

std::string mistakes(std::string_view text) {
  const auto parsed = parse(text);
  if (parsed) return "none";
  EXPECT_EQ(parsed.error().code, kConfigInvalid);
  return parsed.error().message;
}

TEST(MachinesFile, TakesEveryKey) {
  const auto file = parse(R"([[machine]]
name = "apu"
memory = "120GiB"
reserve = "2GiB"
[[machine.gpu]]
name = "Radeon 8060S"
backend = "rocm"
gfx = "gfx1151"
unified = true
memory = "100GiB"

[[machine]]
name = "box"
memory = "64GiB"
[[machine.gpu]]
name = "A"
memory = "24GiB"
[[machine.gpu]]
name = "B"
memory = "16GiB"
)");
  ASSERT_TRUE(file) << file.error().text();
  ASSERT_EQ(file->machines.size(), 2);
  const DescribedMachine& apu = file->machines[0];
  EXPECT_EQ(apu.name, "apu");
  EXPECT_EQ(apu.memory, 120 * kGiB);
  EXPECT_EQ(apu.reserve, 2 * kGiB);
  EXPECT_EQ(apu.line, 1);
  ASSERT_EQ(apu.gpus.size(), 1);
  EXPECT_EQ(apu.gpus[0].name, "Radeon 8060S");
  EXPECT_EQ(apu.gpus[0].backend, "rocm");
  EXPECT_EQ(apu.gpus[0].gfx, "gfx1151");
  EXPECT_TRUE(apu.gpus[0].unified);
  EXPECT_EQ(apu.gpus[0].memory, 100 * kGiB);
  const DescribedMachine& box = file->machines[1];
  EXPECT_EQ(box.reserve, std::nullopt);
  EXPECT_EQ(box.line, 12);
  ASSERT_EQ(box.gpus.size(), 2);
  EXPECT_EQ(box.gpus[0].backend, "vulkan");
  EXPECT_FALSE(box.gpus[1].unified);
  EXPECT_EQ(box.gpus[1].memory, 16 * kGiB);
}

TEST(MachinesFile, NumbersMachinesThatAreAlike) {
  const auto file = parse(R"([[machine]]
name = "box"
count = 3
memory = "64GiB"
[[machine.gpu]]
name = "Radeon"
unified = true
)");
  ASSERT_TRUE(file) << file.error().text();
  ASSERT_EQ(file->machines.size(), 3);
  EXPECT_EQ(file->machines[0].name, "box-1");
  EXPECT_EQ(file->machines[2].name, "box-3");
  EXPECT_EQ(file->machines[2].gpus.size(), 1);
  EXPECT_EQ(file->machines[2].gpus[0].memory, std::nullopt);
}

TEST(MachinesFile, ReportsEveryMistakeWithItsLine) {
  const std::string text = mistakes(R"([[machine]]
memory = "64 gigs"
reserv = "1GiB"
[[machine.gpu]]
name = ""
backend = "metal"
[[machine]]
name = "b"
memory = "1GiB"
reserve = "1GiB"
count = 0
[[machine.gpu]]
name = "u"
unified = true
memory = "2GiB"
[[machine]]
name = "b"
)");
  for (const char* const said :
       {"m.toml:1: 'name' in [[machine]]: is missing", "m.toml:2: 'memory' in [[machine]]: '64 gi",
        "m.toml:3: unknown key 'reserv' in [[machine]]. Did you mean 'reserve'?",
        "m.toml:5: 'name' in [[machine.gpu]]: expected 1 to 64 visible",
        "m.toml:6: 'backend' in [[machine.gpu]]: 'metal' is not one of 'vulkan', 'rocm', 'cuda'.",
        "m.toml:4: 'memory' in [[machine.gpu]]: is missing. Say how much",
        "m.toml:10: 'reserve' in [[machine]]: 1 GiB of 1 GiB leaves nothing.",
        "m.toml:11: 'count' in [[machine]]: 0 is not between 1 and 64.",
        "m.toml:15: 'memory' in [[machine.gpu]]: of the machine's 1 GiB it can't map 2 GiB.",
        "m.toml:16: 'memory' in [[machine]]: is missing.",
        "m.toml:16: there is a machine 'b' in line 7 already."}) {
    EXPECT_THAT(text, HasSubstr(said));
  }
  EXPECT_EQ(std::ranges::count(text, '\n'), 10);
}

TEST(MachinesFile, SaysHowTablesAreWritten) {
  EXPECT_THAT(mistakes("[machine]\nname = \"a\"\n"),
              HasSubstr("m.toml:1: 'machine': write it in double brackets, as [[machine]]"));
  EXPECT_THAT(mistakes("[[machine]]\nname=\"a\"\nmemory=\"1GiB\"\n[machine.gpu]\nname=\"g\"\n"),
              HasSubstr("as [[machine.gpu]]"));
  EXPECT_THAT(mistakes("machine = [1]"), HasSubstr("expected tables, each as [[machine]], found"));
  EXPECT_THAT(mistakes(""), HasSubstr("m.toml: no machine is described. Add one:"));
  EXPECT_THAT(mistakes("[[machine"), HasSubstr("m.toml:1:"));
}

TEST(MachinesFile, IsBounded) {
  std::string many;
  for (int i = 0; i < 3; ++i) {
    many += "[[machine]]\nname = \"a" + std::to_string(i) + "\"\ncount = 64\nmemory = \"1GiB\"\n";
  }
  EXPECT_THAT(mistakes(many), HasSubstr("more than 64 machines"));
  std::string gpus = "[[machine]]\nname = \"a\"\nmemory = \"1GiB\"\n";
  for (int i = 0; i < 17; ++i) gpus += "[[machine.gpu]]\nname = \"g\"\nunified = true\n";
  EXPECT_THAT(mistakes(gpus), HasSubstr("more than 16 of them"));
  EXPECT_THAT(mistakes("[[machine]]\nname = \"\\u001b[1m\"\nmemory = \"1GiB\"\n"),
              HasSubstr("visible characters"));
}

TEST(MachinesFile, IsReadFromAFile) {
  const auto missing = load_machines("/nowhere/m.toml");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, kConfigNotFound);
  EXPECT_THAT(missing.error().hint, HasSubstr("examples/four-strix-halo.toml"));
  EXPECT_EQ(load_machines(std::filesystem::temp_directory_path()).error().code, kConfigNotFound);
}

}  // namespace
}  // namespace yoke::config
