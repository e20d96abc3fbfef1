// What an engine reports as an error, or what became of it, as an error for clients.
// Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace yoke::gateway {

// It lives, but said that it can't compute any more.
inline constexpr ErrorCode kEngineBroken{"engine_broken"};

// The status that an error event tells of; 500 if none.
int status_in_error_event(std::string_view event);

// An engine's own error body that came with an HTTP status, as an error with a stable code and the
// engine's message. llama-server and vLLM write {"error":{...}} with types of their own, older vLLM
// {"object":"error",...}.
Error engine_refusal(std::string_view model, int status, std::string_view body);

// The exchange with the engine failed; its address is nobody's business.
Error engine_trouble(std::string_view model, const Error& error);

}  // namespace yoke::gateway
