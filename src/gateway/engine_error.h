// What an engine reports as an error, or what became of it, as an error for clients.
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace yoke::gateway {

// An engine's own error body ({"error":{...}}, llama-server's types) that came with an HTTP status,
// as an error with a stable code and the engine's message.
Error engine_refusal(std::string_view model, int status, std::string_view body);

// The exchange with the engine failed; its address is nobody's business.
Error engine_trouble(std::string_view model, const Error& error);

}  // namespace yoke::gateway
