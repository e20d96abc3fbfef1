#include "cli/doctor.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/paths.h"
#include "base/units.h"
#include "cli/answer_view.h"
#include "cli/catalogue_models.h"
#include "cli/confirm.h"
#include "cli/detect.h"
#include "cli/exit_code.h"
#include "cli/table.h"
#include "cli/text_wrap.h"
#include "config/config.h"
#include "doctor/apply.h"
#include "doctor/checks.h"
#include "doctor/command.h"
#include "doctor/fix_plan.h"
#include "doctor/report.h"

namespace yoke::cli {
namespace {

using yoke::doctor::Finding;
using yoke::doctor::Severity;

// What was read of the machine, and what the checks say about it.
struct Examination {
  hardware::HostFiles files;
  hardware::Machine machine;
  yoke::doctor::SystemState state;
  std::vector<Finding> findings;
};

Result<void> check_usage(const DoctorOptions& options) {
  const std::string hint = "`yoke doctor --help` says what it takes.";
  const auto refuse = [&](std::string message) { return fail(kUsage, std::move(message), hint); };
  if (int{options.fix} + int{options.undo} + int{options.report} > 1) {
    return refuse("Only one of --fix, --undo and --report can be done at a time.");
  }
  if (options.json && (options.fix || options.undo)) {
    return refuse("--json goes with the checks and with --report.");
  }
  if (!options.gpu_memory.empty() && !options.fix) return refuse("--gpu-memory belongs to --fix.");
  if ((options.yes || options.force) && !options.fix && !options.undo) {
    return refuse("--yes and --force belong to --fix and --undo.");
  }
  return {};
}

// Behind sudo: who called it.
std::optional<uid_t> caller() {
  const char* text = ::geteuid() == 0 ? std::getenv("SUDO_UID") : nullptr;
  if (text == nullptr) return std::nullopt;
  const std::string_view digits = text;
  uid_t uid = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), uid);
  if (error != std::errc{} || end != digits.data() + digits.size() || uid == 0) return std::nullopt;
  return uid;
}

// What the configured models want to lock; any amount, if that can't be told.
std::uint64_t lock_bytes() {
  auto config = config::load_config(config_dir() / "yoke.toml");
  if (!config || !take_from_catalogue(*config)) return yoke::doctor::kUnlimited;
  std::uint64_t total = 0;
  for (const config::ModelConfig& model : config->models) {
    if (!model.options.mlock) continue;
    std::error_code error;
    const auto size =
        std::filesystem::file_size(config->server.model_dir / model.options.model_path, error);
    if (error) return yoke::doctor::kUnlimited;
    total += size;
  }
  return total;
}

Result<Examination> examine(const DoctorOptions& options) {
  YOKE_TRY(const hardware::DetectOptions detection,
           hardware_options(options.root, options.load_libraries));
  hardware::Machine machine = hardware::detect(detection);
  yoke::doctor::SystemState state = yoke::doctor::read_state(detection.files, machine);
  yoke::doctor::CheckOptions check_options;
  if (detection.files.is_this_machine()) {
    check_options.lock_bytes = lock_bytes();
    if (const auto uid = caller()) {
      check_options.account = yoke::doctor::read_account(detection.files, *uid);
    }
  }
  std::vector<Finding> findings = yoke::doctor::check(state, machine, check_options);
  return Examination{detection.files, std::move(machine), std::move(state), std::move(findings)};
}

void print(std::string_view text) {
  const std::string safe = printable(text);
  std::fwrite(safe.data(), 1, safe.size(), stdout);
}

std::string describe_counts(const std::vector<Finding>& findings) {
  const auto count = [&](Severity severity) {
    return std::count_if(findings.begin(), findings.end(),
                         [&](const Finding& finding) { return finding.severity == severity; });
  };
  const auto warnings = count(Severity::kWarning);
  return fmt::format("{} ok, {} info, {} {}, {} blocking", count(Severity::kOk),
                     count(Severity::kInfo), warnings, warnings == 1 ? "warning" : "warnings",
                     count(Severity::kBlocking));
}

Result<void> verdict(const std::vector<Finding>& findings) {
  if (!yoke::doctor::blocks(findings)) return {};
  std::vector<std::string> titles;
  for (const Finding& finding : findings) {
    if (finding.severity == Severity::kBlocking) titles.push_back(finding.title);
  }
  return fail(kDoctorFoundProblems,
              fmt::format("A device can't be used: {}.", fmt::join(titles, "; ")),
              "The fix of each stands above; `yoke doctor --report` is for a bug report.");
}

std::string summary(const std::vector<Finding>& findings) {
  const auto fixable = std::count_if(findings.begin(), findings.end(),
                                     [](const Finding& finding) { return finding.fixable(); });
  std::string text = describe_counts(findings) + ".";
  if (fixable > 0) {
    text += fmt::format(" `sudo yoke doctor --fix` sets {} of them right.", fixable);
  }
  return text + "\n";
}

Result<void> show(const DoctorOptions& options) {
  YOKE_TRY(const Examination examination, examine(options));
  if (options.json) {
    const boost::json::object document{{"blocking", yoke::doctor::blocks(examination.findings)},
                                       {"findings", to_json(examination.findings)}};
    print(boost::json::serialize(document) + "\n");
  } else {
    const std::string text = format_findings(examination.findings, Terminal::of(stdout));
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  YOKE_CHECK(flush_stdout());
  return verdict(examination.findings);
}

Result<void> report(const DoctorOptions& options) {
  YOKE_TRY(const Examination examination, examine(options));
  YOKE_TRY(const boost::json::value document,
           yoke::doctor::make_report(YOKE_VERSION, examination.machine, examination.state,
                                     examination.findings,
                                     yoke::doctor::read_kernel_messages(examination.files),
                                     yoke::doctor::read_identity(examination.files)));
  print(options.json ? boost::json::serialize(document) + "\n"
                     : yoke::doctor::report_text(document));
  return flush_stdout();
}

yoke::doctor::ApplyOptions apply_options(const DoctorOptions& options,
                                         const hardware::HostFiles& files) {
  yoke::doctor::ApplyOptions result{.root = files.root(), .print = print, .confirm = confirm};
  result.force = options.force;
  if (options.yes) result.confirm = [](std::string_view) { return Result<bool>(true); };
  if (files.is_this_machine()) {
    result.run = [](const yoke::doctor::Command& command) {
      // What it writes goes behind what was said about it.
      std::fflush(stdout);
      return yoke::doctor::run_command(command);
    };
  }
  return result;
}

void print_manual(const std::vector<std::string>& steps) {
  if (steps.empty()) return;
  print("\nStill to do by hand:\n");
  for (const std::string& step : steps) print(fmt::format("  - {}.\n", step));
}

Result<void> fix(const DoctorOptions& options) {
  yoke::doctor::FixOptions fix_options;
  if (!options.gpu_memory.empty()) {
    YOKE_TRY(fix_options.gpu_memory, parse_bytes(options.gpu_memory));
  }
  YOKE_TRY(const Examination examination, examine(options));
  YOKE_TRY(const yoke::doctor::FixPlan plan,
           yoke::doctor::plan_fixes(examination.findings, examination.state, examination.machine,
                                    fix_options));
  const auto applied = yoke::doctor::apply(plan, apply_options(options, examination.files));
  if (!applied) {
    YOKE_CHECK(flush_stdout());
    return fail(applied.error());
  }
  if (*applied == yoke::doctor::Outcome::kNothingToDo) {
    print("There is nothing to write: every setting that Yoke can make is in its file.\n");
  }
  if (*applied == yoke::doctor::Outcome::kDeclined) {
    print("Nothing was changed.\n");
    return flush_stdout();
  }
  if (*applied == yoke::doctor::Outcome::kDone) {
    print("Done. `sudo yoke doctor --undo` takes it back.\n");
    if (plan.login) print("The limit on locked memory counts from the next login on.\n");
    if (plan.reboot) print("Reboot to make the rest effective, then look with `yoke doctor`.\n");
  }
  print_manual(plan.manual);
  return flush_stdout();
}

Result<void> undo(const DoctorOptions& options) {
  YOKE_TRY(const hardware::HostFiles files,
           hardware::HostFiles::open(options.root.empty() ? "/" : options.root));
  const auto undone =
      yoke::doctor::undo(yoke::doctor::read_distribution(files), apply_options(options, files));
  if (!undone) {
    YOKE_CHECK(flush_stdout());
    return fail(undone.error());
  }
  if (*undone == yoke::doctor::Outcome::kDone) {
    print("Every file is as it was before `yoke doctor --fix`. Reboot to make it effective.\n");
  } else if (*undone == yoke::doctor::Outcome::kNothingToDo) {
    print("There is nothing to take back.\n");
  } else {
    print("Nothing was changed.\n");
  }
  return flush_stdout();
}

std::string remedy(const Finding& finding) {
  std::string text = finding.fixable() ? "`sudo yoke doctor --fix`, or by hand: " : "";
  text += finding.fix;
  return finding.reboot ? text + ". Needs a reboot." : text;
}

// "  fix     sudo ..." with further lines below the first.
void add_labelled(std::string_view label, std::string_view value, const Terminal& terminal,
                  std::string& text) {
  if (value.empty()) return;
  constexpr std::size_t kIndent = 10;
  const auto width = static_cast<std::size_t>(std::max(terminal.width, 0));
  std::string before = fmt::format("  {:<8}", label);
  for (const std::string& line :
       wrap(printable(value), width > 2 * kIndent ? width - kIndent : 0)) {
    text += before + line + "\n";
    before = std::string(kIndent, ' ');
  }
}

}  // namespace

std::string format_findings(const std::vector<Finding>& findings, const Terminal& terminal) {
  Table table({{"STATE"}, {"CHECK"}, {"FOUND"}});
  for (const Finding& finding : findings) {
    table.add_row({std::string(name_of(finding.severity)), printable(finding.title),
                   printable(finding.found)});
  }
  std::string text = table.render(terminal);
  for (const Severity severity : {Severity::kBlocking, Severity::kWarning, Severity::kInfo}) {
    for (const Finding& finding : findings) {
      if (finding.severity != severity) continue;
      text += fmt::format("\n{}\n", terminal.bold(fmt::format("{}: {}", name_of(severity),
                                                              printable(finding.title))));
      add_labelled("found", finding.found, terminal, text);
      add_labelled("wanted", finding.wanted, terminal, text);
      add_labelled("why", finding.why, terminal, text);
      add_labelled("fix", remedy(finding), terminal, text);
    }
  }
  return text + "\n" + summary(findings);
}

Result<void> doctor(const DoctorOptions& options) {
  YOKE_CHECK(check_usage(options));
  if (options.fix) return fix(options);
  if (options.undo) return undo(options);
  if (options.report) return report(options);
  return show(options);
}

}  // namespace yoke::cli
