#include "cli/app.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/nearest.h"
#include "base/result.h"
#include "cli/answer_view.h"
#include "cli/detect.h"
#include "cli/doctor.h"
#include "cli/engine.h"
#include "cli/engine_install.h"
#include "cli/exit_code.h"
#include "cli/explain.h"
#include "cli/import.h"
#include "cli/list.h"
#include "cli/logs.h"
#include "cli/plan.h"
#include "cli/ps.h"
#include "cli/pull.h"
#include "cli/quarantine.h"
#include "cli/rm.h"
#include "cli/run_command.h"
#include "cli/serve.h"
#include "cli/show.h"
#include "cli/terminal.h"
#include "hardware/probe.h"
#include "supervisor/guard.h"

namespace yoke::cli {
namespace {

// Every command with its options; the chosen one is to be run after parsing.
class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Nothing if the command was all about --help or --version, which are then printed.
  Result<std::function<Result<void>()>> parse(int argc, char** argv);

 private:
  void add_serve();
  void add_run();
  void add_ps();
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

  CLI::App app_{"A dependable LLM server for machines of your own.", "yoke"};
  std::function<Result<void>()> command_;
  ServeOptions serve_;
  RunOptions run_;
  std::vector<std::pair<std::string, std::string>> settings_;  // For run_.sampling.
  PsOptions ps_;
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

CommandLine::CommandLine() {
  app_.set_help_flag("-h,--help", "Show this help");
  app_.set_version_flag("--version", "yoke " YOKE_VERSION, "Show the version");
  app_.require_subcommand(1);
  add_serve();
  add_run();
  add_ps();
  add_logs();
  add_detect();
  add_doctor();
  add_engine();
  add_explain();
  add_quarantine();
  add_pull();
  add_list();
  add_show();
  add_plan();
  add_import();
  add_rm();
}

void CommandLine::add_serve() {
  CLI::App* command = app_.add_subcommand("serve", "Serve models until Ctrl-C");
  command->add_option("--config", serve_.config_file,
                      "Configuration file [$XDG_CONFIG_HOME/yoke/yoke.toml]");
  command->add_option("--listen", serve_.listen,
                      "Address and port to listen on, before the file's");
  command->add_option("--log-level", serve_.log_level, "debug, info, warning or error");
  command->final_callback([this] { command_ = [this] { return serve(serve_); }; });
}

void CommandLine::add_run() {
  CLI::App* command =
      app_.add_subcommand("run", "Ask a model once, or talk to it when no prompt is given");
  command->add_option("MODEL", run_.model, "The model's name")->required();
  // For the help only, it takes nothing (0 words at least, and no extra ones): CLI11 would take the
  // prompt "[a, b]" apart as a list. The words are what remains.
  command->allow_extras();
  command->add_option("PROMPT", run_.prompt, "What to ask; \"-\" stands for standard input")
      ->type_name("")
      ->expected(0, CLI::detail::expected_max_vector_size)
      ->allow_extra_args(false);
  command->add_option("--system", run_.system, "System prompt");
  const auto add_setting = [&](const std::string& name, const std::string& description) {
    const auto keep = [this, name](const std::vector<std::string>& values) {
      settings_.emplace_back(name, values.front());
      return true;
    };
    command->add_option("--" + name, keep, description)->type_name("VALUE");
  };
  add_setting("temperature", "0: always the likeliest token");
  add_setting("top-p", "Only the likeliest tokens that add up to this probability");
  add_setting("max-tokens", "End the answer after so many tokens");
  add_setting("seed", "The same seed gives the same answer");
  command->add_flag("--no-stats", run_.no_stats, "No line about tokens and speed");
  add_connect(*command, run_.connect);
  command->final_callback([this] { command_ = [this] { return run_command(run_); }; });
}

void CommandLine::add_ps() {
  CLI::App* command = app_.add_subcommand("ps", "Show which models run, and how");
  command->add_flag("--json", ps_.json, "Print the server's reply as it is");
  add_connect(*command, ps_.connect);
  command->final_callback([this] { command_ = [this] { return ps(ps_); }; });
}

void CommandLine::add_logs() {
  CLI::App* command = app_.add_subcommand("logs", "Show what the engines wrote");
  command->add_option("MODEL", logs_.model, "Only of this model");
  command->add_flag("-f,--follow", logs_.follow, "Go on with new lines until Ctrl-C");
  command->add_option("-n,--tail", logs_.tail, "So many of the newest lines [200]")
      ->type_name("LINES")
      ->check(CLI::Range(0, 1'000'000).description(""));
  command->add_flag("--json", logs_.json, "One JSON object per line");
  add_connect(*command, logs_.connect);
  command->final_callback([this] { command_ = [this] { return logs(logs_); }; });
}

void CommandLine::add_detect() {
  CLI::App* command =
      app_.add_subcommand("detect", "Show what can compute here, and how it is known");
  command->add_flag("--json", detect_.json, "Everything as JSON");
  command->add_flag("--software", detect_.software, "Offer software Vulkan devices too");
  command->add_flag("--no-bandwidth", detect_.no_bandwidth, "Don't measure the memory's bandwidth");
  command->add_option("--root", detect_.root, "A copy of another machine's files");
  command->add_flag("--load-libraries", detect_.load_libraries,
                    "Load the drivers' libraries under the root too: their code runs here");
  command->final_callback([this] { command_ = [this] { return detect(detect_); }; });
}

void CommandLine::add_doctor() {
  CLI::App* command =
      app_.add_subcommand("doctor", "Show what is set up wrongly for this hardware, and mend it");
  command->add_flag("--fix", doctor_.fix, "Mend what can be mended; shows the changes and asks");
  command->add_option("--gpu-memory", doctor_.gpu_memory,
                      "With --fix: how much memory an APU's GPU may use, \"120GiB\"");
  command->add_flag("--undo", doctor_.undo, "Take back what --fix changed");
  command->add_flag("-y,--yes", doctor_.yes, "Don't ask");
  command->add_flag("--force", doctor_.force, "Also files that somebody else changed since");
  command->add_flag("--json", doctor_.json, "The findings as JSON");
  command->add_flag("--report", doctor_.report, "Everything for a bug report, without secrets");
  command->add_option("--root", doctor_.root, "A copy of another machine's files");
  command->add_flag("--load-libraries", doctor_.load_libraries,
                    "Load the drivers' libraries under the root too: their code runs here");
  command->final_callback([this] { command_ = [this] { return doctor(doctor_); }; });
}

void CommandLine::add_engine() {
  CLI::App* command = app_.add_subcommand("engine", "The engines that are installed");
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* description,
                       Result<void> (*run)(const EngineCommandOptions&)) {
    CLI::App* part = command->add_subcommand(name, description);
    part->add_flag("--json", engine_.json, "As JSON");
    part->add_option("--config", engine_.config_file,
                     "Configuration file [$XDG_CONFIG_HOME/yoke/yoke.toml]");
    part->final_callback([this, run] { command_ = [this, run] { return run(engine_); }; });
  };
  add("list", "Show name, version, backend and place of each", engine_list);
  add("check", "Run each: does it work, and which devices does it see?", engine_check);

  CLI::App* install = command->add_subcommand("install", "Get an engine: llama.cpp or vllm");
  install->add_option("NAME", install_.name, "llama.cpp or vllm")->required();
  install->add_option("--backend", install_.backend, "vulkan, rocm, cuda or cpu");
  install->add_option("--from", install_.from, "A release archive or directory that you have");
  install->add_option("--dest", install_.dest, "Another directory of engines");
  install->final_callback([this] { command_ = [this] { return engine_install(install_); }; });
}

void CommandLine::add_explain() {
  CLI::App* command = app_.add_subcommand("explain", "Show why a model runs as it does");
  command->add_option("MODEL", explain_.model, "The model's name")->required();
  command->add_flag("--json", explain_.json, "Print the server's reply as it is");
  add_connect(*command, explain_.connect);
  command->final_callback([this] { command_ = [this] { return cli::explain(explain_); }; });
}

void CommandLine::add_quarantine() {
  CLI::App* command =
      app_.add_subcommand("quarantine", "Which backends are left out for a model, and until when");
  command->add_flag("--json", quarantine_.json, "Print the server's reply as it is");
  add_connect(*command, quarantine_.connect);
  CLI::App* list = command->add_subcommand("list", "Show them; the same as without a word");
  CLI::App* clear = command->add_subcommand("clear", "Use them again");
  clear->add_option("MODEL", quarantine_.model, "Only of this model");
  clear->add_option("--backend", quarantine_.backend, "Only this backend");
  for (CLI::App* part : {list, clear}) {
    part->add_flag("--json", quarantine_.json, "Print the server's reply as it is");
    add_connect(*part, quarantine_.connect);
  }
  command->final_callback([this, clear] {
    command_ = [this, clear] {
      return clear->parsed() ? quarantine_clear(quarantine_) : quarantine_list(quarantine_);
    };
  });
}

void CommandLine::add_show() {
  CLI::App* command = app_.add_subcommand("show", "Show what a model is, without loading it");
  command
      ->add_option("MODEL", show_.file,
                   "A GGUF file, of a split model the first, or a name that `yoke list` shows")
      ->required();
  command->add_flag("--json", show_.json, "As JSON");
  command->add_flag("--template", show_.chat_template, "Only its chat template");
  command->add_flag("--tensors", show_.tensors, "List its tensors");
  add_place(*command, show_.place);
  command->final_callback([this] { command_ = [this] { return cli::show(show_); }; });
}

void CommandLine::add_plan() {
  CLI::App* command = app_.add_subcommand(
      "plan", "Show whether a model fits, and what would lie where, without loading it");
  command
      ->add_option(
          "MODEL", plan_.model,
          "A GGUF file, a configured model, one that `yoke list` shows, or hf:ORG/REPO:QUANT")
      ->required();
  command->add_option("--hardware", plan_.hardware_file,
                      "Plan for the machines that this file describes");
  const auto add_number = [&](const char* name, std::optional<int>& into, const char* description) {
    command->add_option(name, into, description)->type_name("N");
  };
  add_number("--ctx,--ctx-size", plan_.n_ctx,
             "Context in tokens; 0: what the model was trained for [8192]");
  add_number("--parallel", plan_.parallel, "Requests answered at once");
  add_number("--batch,--batch-size", plan_.n_batch, "Tokens handed to the engine at once");
  add_number("--ubatch,--ubatch-size", plan_.n_ubatch, "Tokens computed at once");
  add_number("--gpu-layers,--n-gpu-layers", plan_.gpu_layers, "Layers on GPUs; -1: all that fit");
  command->add_option("--tensor-split", plan_.tensor_split, "The share of each GPU: 3,1")
      ->type_name("N,N,...")
      ->delimiter(',');
  command->add_option("--flash-attn", plan_.flash_attention, "on, off or auto");
  command->add_option("--cache-type-k", plan_.cache_type_k, "Of the KV cache: f16, q8_0, q4_0, …");
  command->add_option("--cache-type-v", plan_.cache_type_v, "Of the KV cache: f16, q8_0, q4_0, …");
  command->add_option("--backend", plan_.backend, "vulkan, rocm, cuda or cpu");
  command->add_option("--models", plan_.model_dir,
                      "Directory of models, before the configuration's model_dir");
  command->add_option("--config", plan_.config_file,
                      "Configuration file [$XDG_CONFIG_HOME/yoke/yoke.toml]");
  command->add_flag("--json", plan_.json, "As JSON");
  command->final_callback([this] { command_ = [this] { return cli::plan(plan_); }; });
}

void CommandLine::add_pull() {
  CLI::App* command = app_.add_subcommand("pull", "Get a model, and go on with one that was cut");
  command
      ->add_option("MODEL", pull_.reference,
                   "hf:ORG/REPO[@REVISION][:QUANT or FILE], https://…/model.gguf or file:PATH")
      ->required();
  command->add_option("--name", pull_.name, "What requests call it [from the reference]");
  command->add_flag("--no-projector", pull_.no_projector,
                    "Not the file for images and sound (mmproj)");
  command->add_option("--connections", pull_.connections, "How many at once [4]")
      ->type_name("N")
      ->check(CLI::Range(1, 16).description(""));
  command->add_option("--models", pull_.model_dir,
                      "Directory of models, before the configuration's model_dir");
  command->add_option("--config", pull_.config_file,
                      "Configuration file [$XDG_CONFIG_HOME/yoke/yoke.toml]");
  command->add_flag("--json", pull_.json, "One JSON object per line");
  command->final_callback([this] { command_ = [this] { return cli::pull(pull_); }; });
}

void CommandLine::add_list() {
  CLI::App* command = app_.add_subcommand("list", "Show which models there are");
  command->add_flag("--json", list_.json, "As JSON");
  add_place(*command, list_.place);
  command->final_callback([this] { command_ = [this] { return list_models(list_); }; });
}

void CommandLine::add_rm() {
  CLI::App* command =
      app_.add_subcommand("rm", "Remove models, and the files that Yoke downloaded");
  command->add_option("NAME", rm_.names, "As `yoke list` shows them")->required();
  command->add_flag("-y,--yes", rm_.yes, "Don't ask");
  add_place(*command, rm_.place);
  command->final_callback([this] { command_ = [this] { return remove_models(rm_); }; });
}

void CommandLine::add_import() {
  CLI::App* command =
      app_.add_subcommand("import", "Link models that other programs keep on this machine");
  command->add_option("DIR", import_.dir,
                      "A directory of models [Ollama's, LM Studio's and HuggingFace's]");
  command->add_flag("--dry-run", import_.dry_run, "Only show what there is");
  command->add_flag("--json", import_.json, "As JSON");
  add_place(*command, import_.place);
  command->final_callback([this] { command_ = [this] { return import_models(import_); }; });
}

void CommandLine::add_place(CLI::App& command, ModelPlace& place) {
  command.add_option("--models", place.model_dir,
                     "Directory of models, before the configuration's model_dir");
  command.add_option("--config", place.config_file,
                     "Configuration file [$XDG_CONFIG_HOME/yoke/yoke.toml]");
}

void CommandLine::add_connect(CLI::App& command, ConnectOptions& options) {
  command.add_option("--url", options.url,
                     fmt::format("The server's address [$YOKE_URL, or {}]", kDefaultUrl));
  command.add_option("--api-key-file", options.api_key_file,
                     "File that holds the server's API key [the key in $YOKE_API_KEY]");
}

std::string CommandLine::name_of(const CLI::App& command) const {
  const CLI::App* parent = command.get_parent();
  return parent == nullptr ? "yoke" : name_of(*parent) + " " + command.get_name();
}

const CLI::App& CommandLine::chosen() const {
  const CLI::App* command = &app_;
  for (auto parts = app_.get_subcommands(); !parts.empty(); parts = command->get_subcommands()) {
    command = parts.front();
  }
  return *command;
}

Error CommandLine::unexpected(const std::string& word) const {
  const CLI::App& command = chosen();
  Error error{kUsage, fmt::format("`{}` does not take '{}'.", name_of(command), word)};
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::vector<std::string_view> candidates(names.begin(), names.end());
  const auto meant = word.starts_with("--")
                         ? nearest(std::string_view(word).substr(0, word.find('=')), candidates)
                         : std::nullopt;
  if (meant) error.hint = fmt::format("Did you mean {}? ", *meant);
  error.hint += fmt::format("`{} --help` says what it takes.", name_of(command));
  return error;
}

Error CommandLine::explain(const CLI::ParseError& error) const {
  if (const auto extras = app_.remaining(true); !extras.empty()) return unexpected(extras.front());
  const CLI::App& command = chosen();
  const std::string hint = fmt::format("`{} --help` says what there is.", name_of(command));
  if (dynamic_cast<const CLI::RequiredError*>(&error) == nullptr) {
    return {kUsage, fmt::format("`{}`: {}.", name_of(command), error.what()), hint};
  }
  std::vector<std::string> parts;
  for (const CLI::App* part : command.get_subcommands({})) parts.push_back(part->get_name());
  return {kUsage,
          &command == &app_ ? "No command was given."
          : parts.empty()
              ? fmt::format("`{}` needs a model's name.", name_of(command))
              : fmt::format("`{}` needs one of {}.", name_of(command), fmt::join(parts, ", ")),
          hint};
}

std::optional<Error> CommandLine::unknown_command(int argc, char** argv) const {
  // The program's own options are flags, so the first other word is the command.
  const auto first =
      std::find_if(argv + 1, argv + argc, [](const char* word) { return *word != '-'; });
  if (first == argv + argc) return std::nullopt;
  std::vector<std::string> names;
  for (const CLI::App* command : app_.get_subcommands({})) names.push_back(command->get_name());
  if (std::find(names.begin(), names.end(), *first) != names.end()) return std::nullopt;
  const std::vector<std::string_view> candidates(names.begin(), names.end());
  const auto meant = nearest(*first, candidates);
  return Error{
      kUsage, fmt::format("There is no command '{}'.", *first),
      meant ? fmt::format("Did you mean `yoke {}`?", *meant) : "`yoke --help` lists the commands."};
}

// The words that no option took, and those behind "--", which may begin with a dash.
Result<void> CommandLine::take_prompt(std::vector<std::string> verbatim) {
  for (std::string& word : chosen().remaining()) {
    if (word.starts_with('-') && word != "-") {
      Error error = unexpected(word);
      error.hint += " A prompt that begins with a dash needs `--` before it.";
      return fail(std::move(error));
    }
    run_.prompt.push_back(std::move(word));
  }
  std::move(verbatim.begin(), verbatim.end(), std::back_inserter(run_.prompt));
  for (const auto& [name, value] : settings_) {
    auto set = run_.sampling.set(name, value);
    if (!set) return fail(kUsage, std::move(set.error().message), std::move(set.error().hint));
  }
  return {};
}

Result<std::function<Result<void>()>> CommandLine::parse(int argc, char** argv) {
  if (auto error = unknown_command(argc, argv)) return fail(std::move(*error));
  char** const dashes = std::find(argv, argv + argc, std::string_view("--"));
  std::vector<std::string> verbatim(std::min(dashes + 1, argv + argc), argv + argc);
  try {
    app_.parse(static_cast<int>(dashes - argv), argv);
  } catch (const CLI::Success& help_or_version) {
    app_.exit(help_or_version, std::cout, std::cerr);
    return std::function<Result<void>()>([] { return flush_stdout(); });
  } catch (const CLI::ParseError& error) {
    return fail(explain(error));
  }
  if (app_.got_subcommand("run")) {
    YOKE_CHECK(take_prompt(std::move(verbatim)));
  } else if (!verbatim.empty()) {
    return fail(unexpected(verbatim.front()));
  }
  return command_;
}

}  // namespace

int run(int argc, char** argv) {
  try {
    // A child that loads one driver's library (hardware/probe.h); not for people.
    if (argc > 1 && std::string_view(argv[1]) == kProbeCommand) {
      return hardware::run_probe_child({argv + 2, argv + argc});
    }
    // What ends the engines when this program was killed (supervisor/guard.h).
    if (argc > 1 && std::string_view(argv[1]) == supervisor::kGuardCommand) {
      return supervisor::run_guard();
    }
    CommandLine line;
    auto command = line.parse(argc, argv);
    const Result<void> done = command ? (*command)() : fail(std::move(command.error()));
    if (done) return kExitOk;
    // Who interrupts knows it; what he may not know is how to go on.
    const bool known = done.error().code == kCancelled && done.error().hint.empty();
    if (!known) print_error(done.error());
    return exit_code(done.error());
  } catch (const std::exception& error) {
    print_error({kInternal, fmt::format("A bug in Yoke: {}.", error.what()),
                 "Please report it with what you did before."});
    return kExitFailure;
  }
}

}  // namespace yoke::cli
