// Every command with its options. Owned by the program's main function; main thread only.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cli/detect.h"
#include "cli/doctor.h"
#include "cli/engine.h"
#include "cli/engine_install.h"
#include "cli/explain.h"
#include "cli/import.h"
#include "cli/list.h"
#include "cli/logs.h"
#include "cli/model_place.h"
#include "cli/plan.h"
#include "cli/ps.h"
#include "cli/pull.h"
#include "cli/quarantine.h"
#include "cli/reload.h"
#include "cli/residence.h"
#include "cli/rm.h"
#include "cli/run_command.h"
#include "cli/serve.h"
#include "cli/show.h"

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
class ParseError;
}  // namespace CLI

namespace yoke::cli {

class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Nothing if the command was all about --help or --version, which are then printed.
  Result<std::function<Result<void>()>> parse(int argc, char** argv);

 private:
  void add_serve();
  void add_run();
  void add_ps();
  void add_residence();
  void add_reload();
  void add_logs();
  void add_detect();
  void add_doctor();
  void add_engine();
  void add_explain();
  void add_quarantine();
  void add_show();
  void add_plan();
  void add_pull();
  void add_list();
  void add_rm();
  void add_import();
  static void add_place(CLI::App& command, ModelPlace& place);
  static void add_connect(CLI::App& command, ConnectOptions& options);
  Error explain(const CLI::ParseError& error) const;
  Error unexpected(const std::string& word) const;
  Result<void> take_prompt(std::vector<std::string> verbatim);
  const CLI::App& chosen() const;
  std::string name_of(const CLI::App& command) const;
  std::optional<Error> unknown_command(int argc, char** argv) const;

  std::unique_ptr<CLI::App> app_;
  std::function<Result<void>()> command_;
  ServeOptions serve_;
  RunOptions run_;
  std::vector<std::pair<std::string, std::string>> settings_;  // For run_.sampling.
  PsOptions ps_;
  LoadCommandOptions load_;
  UnloadOptions unload_;
  PinOptions pin_;
  PinOptions unpin_{.connect = {}, .model = {}, .off = true};
  ReloadOptions reload_;
  LogsOptions logs_;
  DetectCommandOptions detect_;
  DoctorOptions doctor_;
  EngineCommandOptions engine_;
  EngineInstallOptions install_;
  ExplainOptions explain_;
  QuarantineOptions quarantine_;
  ShowOptions show_;
  PlanOptions plan_;
  PullCommandOptions pull_;
  ListOptions list_;
  RmOptions rm_;
  ImportOptions import_;
};

}  // namespace yoke::cli
