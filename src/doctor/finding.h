// Finding: what one check of the doctor saw, what it should be, and how to set it right.
// Plain values; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace yoke::doctor {

enum class Severity {
  kOk,        // As it should be.
  kInfo,      // It works; this would be better, or is good to know.
  kWarning,   // Slow, unstable or wasted memory.
  kBlocking,  // A device can't be used at all.
};
std::string_view name_of(Severity severity);  // "ok", "info", "warning", "blocking"

// Something that `yoke doctor --fix` can write into a file of Yoke's own.
struct Setting {
  enum class Kind {
    kModuleParameter,  // key "ttm.pages_limit", value "31457280"
    kMemoryLock,       // key: who, as limits.conf names it ("@render"); value "unlimited"
    kSysctl,           // key "vm.swappiness", value "10"
    kTmpfile,          // key: a file in /sys that is written at boot; value: what
    kUdevRule,         // key: the whole rule; no value
  };
  Kind kind{};
  std::string key;
  std::string value{};
  friend bool operator==(const Setting&, const Setting&) = default;
};

struct Finding {
  std::string id;  // Stable: "ttm-pages-limit".
  Severity severity = Severity::kOk;
  std::string title;
  std::string found{};
  std::string wanted{};             // This and the rest may be empty where all is well.
  std::string why{};                // With the published source in parentheses.
  std::string fix{};                // The exact command or setting.
  bool reboot = false;              // The fix takes effect with the next start of the machine.
  std::vector<Setting> settings{};  // What --fix writes; empty: a person has to do it.

  bool fixable() const { return !settings.empty(); }
};

}  // namespace yoke::doctor
