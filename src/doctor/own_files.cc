#include "doctor/own_files.h"

#include <algorithm>

#include <fmt/format.h>

#include "doctor/text.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

constexpr std::string_view kHeader =
    "# Written by `yoke doctor --fix`; `yoke doctor --undo` takes it back.\n";
constexpr std::string_view kGrubStart = "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT ";

}  // namespace

std::string_view path_of(OwnFile file) {
  switch (file) {
    case OwnFile::kModprobe:
      return "/etc/modprobe.d/yoke.conf";
    case OwnFile::kGrub:
      return "/etc/default/grub.d/yoke.cfg";
    case OwnFile::kLimits:
      return "/etc/security/limits.d/yoke.conf";
    case OwnFile::kSysctl:
      return "/etc/sysctl.d/yoke.conf";
    case OwnFile::kTmpfiles:
      return "/etc/tmpfiles.d/yoke.conf";
    case OwnFile::kUdev:
      return "/etc/udev/rules.d/70-yoke.rules";
  }
  return {};
}

std::optional<OwnFile> own_file_at(std::string_view path) {
  const auto found = std::find_if(kOwnFiles.begin(), kOwnFiles.end(),
                                  [&](OwnFile file) { return path_of(file) == path; });
  if (found == kOwnFiles.end()) return std::nullopt;
  return *found;
}

OwnFile file_for(const Setting& setting) {
  switch (setting.kind) {
    case Setting::Kind::kModuleParameter:
      return OwnFile::kModprobe;
    case Setting::Kind::kMemoryLock:
      return OwnFile::kLimits;
    case Setting::Kind::kSysctl:
      return OwnFile::kSysctl;
    case Setting::Kind::kTmpfile:
      return OwnFile::kTmpfiles;
    case Setting::Kind::kUdevRule:
      return OwnFile::kUdev;
  }
  return OwnFile::kModprobe;
}

OwnFileText::OwnFileText(OwnFile file, std::string_view content) : file_(file) {
  for (const std::string_view line : lines_of(content)) {
    if (hardware::trim(line).empty() || line == kHeader.substr(0, kHeader.size() - 1)) continue;
    lines_.push_back({key_of(line), std::string(line)});
  }
}

std::string OwnFileText::text_of(const Setting& setting) const {
  const std::string& key = setting.key;
  switch (file_) {
    case OwnFile::kModprobe: {
      const std::size_t dot = std::min(key.find('.'), key.size() - 1);
      return fmt::format("options {} {}={}", key.substr(0, dot), key.substr(dot + 1),
                         setting.value);
    }
    // A line for each, as the shell adds them up: the kernel takes the last value of a parameter.
    case OwnFile::kGrub:
      return fmt::format("{}{}={}\"", kGrubStart, key, setting.value);
    case OwnFile::kLimits:
      return fmt::format("{} - memlock {}", key, setting.value);
    case OwnFile::kSysctl:
      return fmt::format("{} = {}", key, setting.value);
    case OwnFile::kTmpfiles:
      return fmt::format("w {} - - - - {}", key, setting.value);
    case OwnFile::kUdev:
      return key;
  }
  return key;
}

std::string OwnFileText::key_of(std::string_view line) const {
  const auto words = words_of(line);
  switch (file_) {
    case OwnFile::kModprobe:
      if (words.size() == 3 && words[0] == "options") {
        return fmt::format("{}.{}", words[1], words[2].substr(0, words[2].find('=')));
      }
      break;
    case OwnFile::kGrub:
      if (line.starts_with(kGrubStart)) {
        const std::string_view argument = line.substr(kGrubStart.size());
        return std::string(argument.substr(0, argument.find('=')));
      }
      break;
    case OwnFile::kLimits:
      if (words.size() == 4 && words[1] == "-" && words[2] == "memlock") {
        return std::string(words[0]);
      }
      break;
    case OwnFile::kSysctl:
      if (words.size() == 3 && words[1] == "=") return std::string(words[0]);
      break;
    case OwnFile::kTmpfiles:
      if (words.size() == 7 && words[0] == "w") return std::string(words[1]);
      break;
    case OwnFile::kUdev:
      break;
  }
  return std::string(line);
}

bool OwnFileText::has(const Setting& setting) const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [text = text_of(setting)](const Line& line) { return line.text == text; });
}

void OwnFileText::set(const Setting& setting) {
  const std::string text = text_of(setting);
  const std::string key = key_of(text);
  const auto same =
      std::find_if(lines_.begin(), lines_.end(), [&](const Line& line) { return line.key == key; });
  if (same == lines_.end()) {
    lines_.push_back({key, text});
  } else {
    same->text = text;
  }
}

std::string OwnFileText::render() const {
  std::string text(kHeader);
  for (const Line& line : lines_) text += line.text + "\n";
  return text;
}

}  // namespace yoke::doctor
