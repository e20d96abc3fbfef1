// Asks a running engine for the answer that is compared (engines/answer_check.h). On the thread
// that runs the caller's executor; can be cancelled.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "engines/answer_check.h"
#include "http/client.h"
#include "io/task.h"

namespace yoke::supervisor {

// Makes the prompt with the engine's own tokenizer and lets it read that without its cache.
// `key`: of the engine; empty if it asks for none. kEngineUnusable, kTimeout, or what the HTTP
// client reports.
io::Task<Result<engines::FirstTokens>> ask_first_tokens(http::Endpoint engine, std::string key,
                                                        int prompt_tokens,
                                                        std::chrono::milliseconds limit);

}  // namespace yoke::supervisor
