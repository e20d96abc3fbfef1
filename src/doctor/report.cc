#include "doctor/report.h"

#include <algorithm>
#include <sys/klog.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "doctor/text.h"
#include "hardware/detect.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostLines = 200;
constexpr std::size_t kLongestLine = 500;

std::string without_control_characters(std::string_view text) {
  std::string clean(text.substr(0, kLongestLine));
  const auto unprintable = [](char c) { return c < 0x20 || c > 0x7e; };
  std::replace_if(clean.begin(), clean.end(), unprintable, '?');
  return clean;
}

template <class Value>
json::value or_null(const std::optional<Value>& value) {
  return value ? json::value(*value) : json::value();
}

json::object to_json(const SystemState& state) {
  json::array options;
  for (const ModuleOption& option : state.module_options) {
    options.push_back({{"module", option.module},
                       {"name", option.name},
                       {"value", option.value},
                       {"file", option.file}});
  }
  json::object files;
  for (const auto& [path, content] : state.own_files) files[path] = content;
  return {{"pages_limit", or_null(state.amdgpu.pages_limit)},
          {"gttsize", or_null(state.amdgpu.gttsize)},
          {"lockup_timeout", or_null(state.amdgpu.lockup_timeout)},
          {"cwsr_enable", or_null(state.amdgpu.cwsr_enable)},
          {"amdgpu_dkms", state.amdgpu.packaged_ttm},
          {"firmware", fmt::format("{} {}", state.firmware_package, state.firmware_version)},
          {"nvidia_version", state.nvidia_version},
          {"vulkan_icds",
           json::array(state.installed.vulkan_icds.begin(), state.installed.vulkan_icds.end())},
          {"module_options", std::move(options)},
          {"own_files", std::move(files)}};
}

// All texts of the document; in place, as it may be deep.
void redact_all(json::value& value, const Identity& identity) {
  if (auto* text = value.if_string()) {
    *text = redact(*text, identity);
  } else if (auto* array = value.if_array()) {
    for (json::value& element : *array) redact_all(element, identity);
  } else if (auto* object = value.if_object()) {
    for (auto& member : *object) {
      if (is_secret_name(member.key()) && member.value().is_primitive()) {
        member.value() = "[secret]";
      } else {
        redact_all(member.value(), identity);
      }
    }
  }
}

// "key: value", what lies inside indented by two more, without empty texts.
void write_text(const json::value& value, std::size_t indent, std::string& text) {
  const std::string space(indent, ' ');
  const auto write_member = [&](std::string_view key, const json::value& member) {
    const bool nested = (member.is_object() && !member.get_object().empty()) ||
                        (member.is_array() && !member.get_array().empty());
    if (member.is_string() && member.get_string().empty()) return;
    text += fmt::format("{}{}", space, key);
    if (nested) {
      text += "\n";
      write_text(member, indent + 2, text);
    } else if (const auto* plain = member.if_string()) {
      text += fmt::format(" {}\n", std::string_view(*plain));
    } else {
      text += fmt::format(" {}\n", json::serialize(member));
    }
  };
  if (const auto* object = value.if_object()) {
    for (const auto& member : *object) {
      write_member(std::string(member.key()) + ":", member.value());
    }
  } else if (const auto* array = value.if_array()) {
    for (const json::value& element : *array) write_member("-", element);
  }
}

}  // namespace

json::value to_json(const std::vector<Finding>& findings) {
  json::array array;
  for (const Finding& finding : findings) {
    array.push_back({{"id", finding.id},
                     {"severity", name_of(finding.severity)},
                     {"title", finding.title},
                     {"found", finding.found},
                     {"wanted", finding.wanted},
                     {"why", finding.why},
                     {"fix", finding.fix},
                     {"reboot", finding.reboot},
                     {"fixable", finding.fixable()}});
  }
  return array;
}

std::vector<std::string> relevant_lines(std::string_view log) {
  std::vector<std::string> lines;
  for (const std::string_view line : lines_of(log)) {
    for (const std::string_view word : {"amdgpu", "amdkfd", "kfd:", "nvidia", "NVRM", "[drm", "ttm",
                                        "AMD-Vi", "Out of memory", "oom-kill", "vulkan"}) {
      if (line.find(word) == std::string_view::npos) continue;
      lines.push_back(without_control_characters(line));
      break;
    }
  }
  if (lines.size() > kMostLines) {
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kMostLines));
  }
  return lines;
}

KernelMessages read_kernel_messages(const hardware::HostFiles& files) {
  constexpr std::size_t kLimit = 4u << 20;
  if (!files.is_this_machine()) {
    const auto log = files.read("/var/log/dmesg", kLimit);
    if (!log) return {{}, log.error().message};
    return {relevant_lines(*log), ""};
  }
  constexpr int kReadAll = 3;  // SYSLOG_ACTION_READ_ALL
  std::string log(kLimit, '\0');
  const int length = ::klogctl(kReadAll, log.data(), static_cast<int>(log.size()));
  if (length < 0) return {{}, "Only root may read them here: `sudo yoke doctor --report`."};
  log.resize(static_cast<std::size_t>(length));
  return {relevant_lines(log), ""};
}

Result<json::value> make_report(const std::string& version, const hardware::Machine& machine,
                                const SystemState& state, const std::vector<Finding>& findings,
                                const KernelMessages& messages, const Identity& identity) {
  YOKE_TRY(json::value machine_json, parse_json(hardware::to_json(machine)));
  json::object report{
      {"yoke", version},
      {"findings", to_json(findings)},
      {"settings", to_json(state)},
      {"kernel_messages", json::array(messages.lines.begin(), messages.lines.end())},
      {"kernel_messages_note", messages.note},
      {"machine", std::move(machine_json)}};
  json::value value = std::move(report);
  redact_all(value, identity);
  return value;
}

std::string report_text(const json::value& report) {
  std::string text;
  write_text(report, 0, text);
  return text;
}

}  // namespace yoke::doctor
