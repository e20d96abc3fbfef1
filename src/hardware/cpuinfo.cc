// /proc/cpuinfo: a block of "key : value" lines per processor, with other keys on every
// architecture.
#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "hardware/host_text.h"
#include "hardware/text_fields.h"

namespace yoke::hardware {
namespace {

struct ArmName {
  std::uint64_t id;
  std::string_view name;
};

// The main identification register's implementer and, for Arm's own cores, its part: Arm's
// technical reference manuals.
constexpr std::array kArmImplementers{ArmName{0x41, "Arm"},       ArmName{0x42, "Broadcom"},
                                      ArmName{0x43, "Cavium"},    ArmName{0x46, "Fujitsu"},
                                      ArmName{0x48, "HiSilicon"}, ArmName{0x4e, "NVIDIA"},
                                      ArmName{0x51, "Qualcomm"},  ArmName{0x61, "Apple"},
                                      ArmName{0x6d, "Microsoft"}, ArmName{0xc0, "Ampere"}};
constexpr std::array kArmParts{
    ArmName{0xd03, "Cortex-A53"},   ArmName{0xd04, "Cortex-A35"},  ArmName{0xd05, "Cortex-A55"},
    ArmName{0xd07, "Cortex-A57"},   ArmName{0xd08, "Cortex-A72"},  ArmName{0xd09, "Cortex-A73"},
    ArmName{0xd0a, "Cortex-A75"},   ArmName{0xd0b, "Cortex-A76"},  ArmName{0xd0c, "Neoverse N1"},
    ArmName{0xd0d, "Cortex-A77"},   ArmName{0xd40, "Neoverse V1"}, ArmName{0xd41, "Cortex-A78"},
    ArmName{0xd42, "Cortex-A78AE"}, ArmName{0xd44, "Cortex-X1"},   ArmName{0xd46, "Cortex-A510"},
    ArmName{0xd47, "Cortex-A710"},  ArmName{0xd48, "Cortex-X2"},   ArmName{0xd49, "Neoverse N2"},
    ArmName{0xd4d, "Cortex-A715"},  ArmName{0xd4e, "Cortex-X3"},   ArmName{0xd4f, "Neoverse V2"},
    ArmName{0xd80, "Cortex-A520"},  ArmName{0xd81, "Cortex-A720"}, ArmName{0xd82, "Cortex-X4"},
    ArmName{0xd84, "Neoverse V3"},  ArmName{0xd85, "Cortex-X925"}, ArmName{0xd87, "Cortex-A725"},
    ArmName{0xd8e, "Neoverse N3"}};

template <std::size_t N>
std::string_view name_in(const std::array<ArmName, N>& names, std::uint64_t id) {
  const auto* const found = std::ranges::find(names, id, &ArmName::id);
  return found == names.end() ? std::string_view() : found->name;
}

std::string arm_name(std::uint64_t implementer, std::uint64_t part) {
  constexpr std::uint64_t kArm = 0x41;
  const std::string_view maker = name_in(kArmImplementers, implementer);
  const std::string_view core = implementer == kArm ? name_in(kArmParts, part) : std::string_view();
  if (!core.empty()) return fmt::format("{} {}", maker, core);
  if (!maker.empty()) return fmt::format("{} processor (part {:#x})", maker, part);
  return fmt::format("ARM processor (implementer {:#x}, part {:#x})", implementer, part);
}

class Reader {
 public:
  void take(std::string_view key, std::string_view value);
  CpuInfo finish();

 private:
  void take_number(std::string_view key, std::uint64_t number);
  void take_flags(std::string_view flags);
  void end_block();
  std::string name() const;

  CpuInfo info_;
  bool has_flags_ = false;
  // In the order in which they are believed as the processor's name.
  static constexpr std::array<std::string_view, 6> kNameKeys{
      "model name", "Model Name", "cpu model", "cpu", "uarch", "Hardware"};
  std::array<std::string, kNameKeys.size()> names_;
  std::vector<std::string> arm_names_;
  std::optional<std::uint64_t> implementer_;
  std::optional<std::uint64_t> socket_;
  std::optional<std::uint64_t> core_;
  std::set<std::uint64_t> sockets_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> cores_;
};

void Reader::take(std::string_view key, std::string_view value) {
  if (key == "flags" && !has_flags_) {
    take_flags(value);
  } else if (const auto* const known = std::ranges::find(kNameKeys, key);
             known != kNameKeys.end()) {
    std::string& name = names_[static_cast<std::size_t>(known - kNameKeys.begin())];
    if (name.empty()) name = printable(value);
  } else if (const auto number = parse_number(value)) {
    take_number(key, *number);
  }
}

void Reader::take_number(std::string_view key, std::uint64_t number) {
  if (key == "processor") {
    end_block();
    ++info_.processors;
  } else if (key == "physical id") {
    socket_ = number;
  } else if (key == "core id") {
    core_ = number;
  } else if (key == "CPU implementer") {
    implementer_ = number;
  } else if (key == "CPU part" && implementer_) {
    constexpr std::size_t kMostKinds = 4;
    const std::string name = arm_name(*implementer_, number);
    if (arm_names_.size() < kMostKinds && !std::ranges::count(arm_names_, name)) {
      arm_names_.push_back(name);
    }
  }
}

void Reader::take_flags(std::string_view flags) {
  std::set<std::string_view> words;
  for (auto word = take_word(flags); !word.empty(); word = take_word(flags)) words.insert(word);
  if (words.empty()) return;
  has_flags_ = true;
  const auto has = [&](std::string_view flag) { return words.contains(flag); };
  info_.avx2 = has("avx2");
  info_.avx512 =
      has("avx512f") && has("avx512bw") && has("avx512cd") && has("avx512dq") && has("avx512vl");
  info_.avx512_bf16 = has("avx512_bf16");
  info_.avx512_vnni = has("avx512_vnni");
  info_.amx = has("amx_tile") && (has("amx_int8") || has("amx_bf16"));
}

void Reader::end_block() {
  if (core_) cores_.emplace(socket_.value_or(0), *core_);
  if (socket_) sockets_.insert(*socket_);
  core_.reset();
  socket_.reset();
}

std::string Reader::name() const {
  // "model name" of 32-bit ARM says less than the core's own name.
  if (!arm_names_.empty()) return fmt::format("{}", fmt::join(arm_names_, " + "));
  for (const std::string& name : names_) {
    if (!name.empty()) return name;
  }
  return {};
}

CpuInfo Reader::finish() {
  end_block();
  info_.name = name();
  info_.cores = static_cast<int>(cores_.size());
  info_.sockets = static_cast<int>(sockets_.size());
  return info_;
}

}  // namespace

CpuInfo parse_cpuinfo(std::string_view text) {
  Reader reader;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    reader.take(trim(line.substr(0, colon)), trim(line.substr(colon + 1)));
  }
  return reader.finish();
}

}  // namespace yoke::hardware
