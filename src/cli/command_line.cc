#include "cli/command_line.h"

#include <algorithm>
#include <iostream>
#include <iterator>
#include <string_view>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/nearest.h"
#include "cli/answer_view.h"
#include "cli/exit_code.h"

namespace yoke::cli {

CommandLine::CommandLine()
    : app_(
          std::make_unique<CLI::App>("A dependable LLM server for machines of your own.", "yoke")) {
  app_->set_help_flag("-h,--help", "Show this help");
  app_->set_version_flag("--version", "yoke " YOKE_VERSION, "Show the version");
  app_->require_subcommand(1);
  add_serve();
  add_run();
  add_ps();
  add_residence();
  add_reload();
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

CommandLine::~CommandLine() = default;

void CommandLine::add_serve() {
  CLI::App* command = app_->add_subcommand("serve", "Serve models until Ctrl-C");
  command->add_option("--config", serve_.config_file,
                      "Configuration file [$XDG_CONFIG_HOME/yoke/yoke.toml]");
  command->add_option("--listen", serve_.listen,
                      "Address and port to listen on, before the file's");
  command->add_option("--log-level", serve_.log_level, "debug, info, warning or error");
  command->final_callback([this] { command_ = [this] { return serve(serve_); }; });
}

void CommandLine::add_run() {
  CLI::App* command =
      app_->add_subcommand("run", "Ask a model once, or talk to it when no prompt is given");
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
  CLI::App* command =
      app_->add_subcommand("ps", "Show which models are in memory, and what comes next");
  command->add_flag("-w,--wide", ps_.wide, "Also engines, processes and restarts");
  command->add_flag("--json", ps_.json, "Print the server's reply as it is");
  add_connect(*command, ps_.connect);
  command->final_callback([this] { command_ = [this] { return ps(ps_); }; });
}

void CommandLine::add_reload() {
  CLI::App* command =
      app_->add_subcommand("reload", "Take over what changed in the server's configuration file");
  command->add_flag("--json", reload_.json, "Print the server's reply as it is");
  add_connect(*command, reload_.connect);
  command->final_callback([this] { command_ = [this] { return reload(reload_); }; });
}

void CommandLine::add_logs() {
  CLI::App* command = app_->add_subcommand("logs", "Show what the engines wrote");
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
      app_->add_subcommand("detect", "Show what can compute here, and how it is known");
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
      app_->add_subcommand("doctor", "Show what is set up wrongly for this hardware, and mend it");
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
  CLI::App* command = app_->add_subcommand("engine", "The engines that are installed");
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
  CLI::App* command = app_->add_subcommand("explain", "Show why a model runs as it does");
  command->add_option("MODEL", explain_.model, "The model's name")->required();
  command->add_flag("--json", explain_.json, "Print the server's reply as it is");
  add_connect(*command, explain_.connect);
  command->final_callback([this] { command_ = [this] { return cli::explain(explain_); }; });
}

void CommandLine::add_quarantine() {
  CLI::App* command =
      app_->add_subcommand("quarantine", "Which backends are left out for a model, and until when");
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
  const CLI::App* command = app_.get();
  for (auto parts = app_->get_subcommands(); !parts.empty(); parts = command->get_subcommands()) {
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
  if (const auto extras = app_->remaining(true); !extras.empty()) return unexpected(extras.front());
  const CLI::App& command = chosen();
  const std::string hint = fmt::format("`{} --help` says what there is.", name_of(command));
  if (dynamic_cast<const CLI::RequiredError*>(&error) == nullptr) {
    return {kUsage, fmt::format("`{}`: {}.", name_of(command), error.what()), hint};
  }
  std::vector<std::string> parts;
  for (const CLI::App* part : command.get_subcommands({})) parts.push_back(part->get_name());
  return {kUsage,
          &command == app_.get() ? "No command was given."
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
  for (const CLI::App* command : app_->get_subcommands({})) names.push_back(command->get_name());
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
    app_->parse(static_cast<int>(dashes - argv), argv);
  } catch (const CLI::Success& help_or_version) {
    app_->exit(help_or_version, std::cout, std::cerr);
    return std::function<Result<void>()>([] { return flush_stdout(); });
  } catch (const CLI::ParseError& error) {
    return fail(explain(error));
  }
  if (app_->got_subcommand("run")) {
    YOKE_CHECK(take_prompt(std::move(verbatim)));
  } else if (!verbatim.empty()) {
    return fail(unexpected(verbatim.front()));
  }
  return command_;
}

}  // namespace yoke::cli
