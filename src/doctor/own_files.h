// The files that `yoke doctor --fix` writes. All are Yoke's own and hold one setting per line, so
// that a later run adds to an earlier one's; lines of somebody else's are kept as they are.
// Pure; any thread.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/finding.h"

namespace yoke::doctor {

enum class OwnFile { kModprobe, kGrub, kLimits, kSysctl, kTmpfiles, kUdev };
inline constexpr std::array kOwnFiles{OwnFile::kModprobe, OwnFile::kGrub,     OwnFile::kLimits,
                                      OwnFile::kSysctl,   OwnFile::kTmpfiles, OwnFile::kUdev};

std::string_view path_of(OwnFile file);
std::optional<OwnFile> own_file_at(std::string_view path);

// Where a setting goes. A module parameter goes to modprobe.d; grub_line() is the other way.
OwnFile file_for(const Setting& setting);

class OwnFileText {
 public:
  // `content` is what the file holds now; empty if there is none.
  OwnFileText(OwnFile file, std::string_view content);

  bool has(const Setting& setting) const;
  // Adds it, or replaces the line with another value.
  void set(const Setting& setting);

  bool empty() const { return lines_.empty(); }
  std::string render() const;

 private:
  struct Line {
    std::string key;  // What the line sets; the whole line if it is none of Yoke's.
    std::string text;
  };
  std::string text_of(const Setting& setting) const;
  std::string key_of(std::string_view line) const;

  OwnFile file_;
  std::vector<Line> lines_;
};

}  // namespace yoke::doctor
