// What is settled about a model before its engine starts, and what settled it. In this order: what
// the user set, what was measured here, a table of known facts with their source, a default.
// Pure, but for a look at the model's size; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/load_options.h"
#include "hardware/machine.h"

namespace yoke::engines {

enum class DecidedBy { kUser, kMeasured, kKnownFact, kDefault };
// "user", "measured", "known_fact", "default": stable, for API replies.
std::string_view name_of(DecidedBy by);

struct Decision {
  std::string setting;  // A key of LoadOptions: "flash_attn", "n_ubatch".
  std::string value;    // As the configuration would have it.
  DecidedBy by = DecidedBy::kDefault;
  std::string why;     // One sentence.
  std::string source;  // Of a known fact: "llama.cpp #21724". May be empty.
};

struct LoadDecisions {
  // With every decision in it: n_batch and n_ubatch are never 0, cache_ram is there.
  config::LoadOptions options;
  std::vector<Decision> decisions;
};

// `machine` may be null. `smaller`: the device was lost with the usual batches, so small ones are
// taken (what was measured). The number of threads on a CPU is the options', else the machine's,
// else what the system says.
LoadDecisions decide(const config::LoadOptions& options, std::string_view backend,
                     const hardware::Machine* machine, bool smaller);

}  // namespace yoke::engines
