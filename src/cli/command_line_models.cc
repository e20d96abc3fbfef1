// The commands about models.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/command_line.h"

namespace yoke::cli {

void CommandLine::add_residence() {
  const auto add = [this](const char* name, const char* description, auto& options) {
    CLI::App* command = app_->add_subcommand(name, description);
    command->add_flag("--json", options.json, "Print the server's reply as it is");
    add_connect(*command, options.connect);
    return command;
  };
  constexpr const char* kModel = "The model's name";
  CLI::App* load = add("load", "Load a model, and wait until it is ready", load_);
  load->add_option("MODEL", load_.model, kModel)->required();
  load->add_flag("--no-wait", load_.no_wait, "Only begin with it");
  load->final_callback([this] { command_ = [this] { return load_model(load_); }; });

  CLI::App* unload =
      add("unload", "Take models out of memory, once their answers are done", unload_);
  unload->add_option("MODEL", unload_.models, "Names of models")->required();
  unload->final_callback([this] { command_ = [this] { return unload_models(unload_); }; });

  CLI::App* pin = add("pin", "Load a model, and never unload it for another", pin_);
  pin->add_option("MODEL", pin_.model, kModel)->required();
  pin->add_flag("--off", pin_.off, "The same as unpin");
  pin->final_callback([this] { command_ = [this] { return pin_model(pin_); }; });

  CLI::App* unpin = add("unpin", "Let a pinned model go when others need its memory", unpin_);
  unpin->add_option("MODEL", unpin_.model, kModel)->required();
  unpin->final_callback([this] { command_ = [this] { return pin_model(unpin_); }; });
}

void CommandLine::add_show() {
  CLI::App* command = app_->add_subcommand("show", "Show what a model is, without loading it");
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
  CLI::App* command = app_->add_subcommand(
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
  CLI::App* command = app_->add_subcommand("pull", "Get a model, and go on with one that was cut");
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
  CLI::App* command = app_->add_subcommand("list", "Show which models there are");
  command->add_flag("--json", list_.json, "As JSON");
  add_place(*command, list_.place);
  command->final_callback([this] { command_ = [this] { return list_models(list_); }; });
}

void CommandLine::add_rm() {
  CLI::App* command =
      app_->add_subcommand("rm", "Remove models, and the files that Yoke downloaded");
  command->add_option("NAME", rm_.names, "As `yoke list` shows them")->required();
  command->add_flag("-y,--yes", rm_.yes, "Don't ask");
  add_place(*command, rm_.place);
  command->final_callback([this] { command_ = [this] { return remove_models(rm_); }; });
}

void CommandLine::add_import() {
  CLI::App* command =
      app_->add_subcommand("import", "Link models that other programs keep on this machine");
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

}  // namespace yoke::cli
