#include "planner/architecture.h"

#include <algorithm>
#include <array>

namespace yoke::planner {
namespace {

// load_arch_hparams() of each model and llama_model::create_memory in llama.cpp v0.5.0.
constexpr std::array kArchitectures{
    Architecture{.name = "afmoe", .window = Window::kIfGiven, .window_period = 4},
    Architecture{.name = "bert", .cached = false},
    Architecture{.name = "cohere2", .window = Window::kIfGiven, .window_period = 4},
    Architecture{
        .name = "cohere2moe", .window = Window::kIfGiven, .window_period = 4, .full_first = true},
    Architecture{.name = "dream", .cached = false},
    Architecture{.name = "eurobert", .cached = false},
    Architecture{.name = "exaone-moe",
                 .window = Window::kIfGiven,
                 .window_period = 4,
                 .default_window = 128},
    Architecture{.name = "exaone4", .window = Window::kIfGiven, .window_period = 4},
    Architecture{.name = "falcon-h1", .state_beside_keys = true},
    Architecture{
        .name = "gemma-embedding", .window = Window::kIfGiven, .window_period = 6, .cached = false},
    Architecture{
        .name = "gemma2", .window = Window::kIfGiven, .window_period = 2, .default_window = 4096},
    Architecture{.name = "gemma3", .window = Window::kIfGiven, .window_period = 6},
    Architecture{
        .name = "gemma3n", .window = Window::kIfGiven, .window_period = 5, .layers_with_keys = 20},
    Architecture{.name = "gemma4", .window = Window::kIfGiven},
    Architecture{.name = "gpt-oss", .window = Window::kIfGiven, .window_period = 2},
    Architecture{.name = "granite_swa", .window = Window::kIfGiven},
    Architecture{.name = "jina-bert-v2", .cached = false},
    Architecture{.name = "jina-bert-v3", .cached = false},
    Architecture{
        .name = "laguna", .window = Window::kIfGiven, .window_period = 4, .full_first = true},
    Architecture{.name = "lfm2", .window = Window::kAttended},
    Architecture{.name = "lfm2moe", .window = Window::kAttended},
    Architecture{.name = "llada", .cached = false},
    Architecture{.name = "llada-moe", .cached = false},
    Architecture{
        .name = "llama4", .window = Window::kIfGiven, .window_period = 4, .default_window = 8192},
    Architecture{.name = "maple", .window = Window::kIfGiven},
    Architecture{.name = "mellum", .window = Window::kIfGiven, .window_period = 4},
    Architecture{.name = "mimo2", .window = Window::kIfGiven},
    Architecture{.name = "modern-bert",
                 .window = Window::kIfGiven,
                 .window_period = 3,
                 .full_first = true,
                 .cached = false},
    Architecture{.name = "muse-glimmer", .window = Window::kIfGiven, .window_period = 4},
    Architecture{.name = "neo-bert", .cached = false},
    Architecture{.name = "nomic-bert", .cached = false},
    Architecture{.name = "nomic-bert-moe", .cached = false},
    Architecture{.name = "olmo2", .window = Window::kIfGiven, .window_period = 4},
    Architecture{.name = "plamo3", .window = Window::kIfGiven, .window_period = 8},
    Architecture{.name = "rnd1", .cached = false},
    Architecture{
        .name = "smallthinker", .window = Window::kIfGiven, .window_period = 4, .full_first = true},
    Architecture{.name = "spark2_5", .window = Window::kIfGiven},
    Architecture{.name = "step35", .window = Window::kIfGiven},
    Architecture{.name = "wavtokenizer-dec", .cached = false},
};

static_assert(std::ranges::is_sorted(kArchitectures, {}, &Architecture::name));

}  // namespace

bool is_measured(std::string_view name) {
  constexpr std::array<std::string_view, 13> kMeasured{
      "bert",  "deepseek2", "falcon-h1", "gemma2", "gemma3", "gpt-oss", "lfm2",
      "llama", "mamba",     "mamba2",    "qwen2",  "qwen3",  "qwen3moe"};
  return std::ranges::find(kMeasured, name) != kMeasured.end();
}

Architecture architecture_of(std::string_view name) {
  const auto found = std::ranges::lower_bound(kArchitectures, name, {}, &Architecture::name);
  if (found != kArchitectures.end() && found->name == name) return *found;
  return Architecture{.name = name};
}

}  // namespace yoke::planner
