// Errors as the server's API reports them: {"error":{"message":...,"type":...,"code":...}}.
// Pure; any thread.
#pragma once

#include <optional>
#include <string_view>

#include <boost/json/value.hpp>

#include "base/error.h"

namespace yoke::cli {

inline constexpr ErrorCode kModelNotFound{"model_not_found"};
inline constexpr ErrorCode kApiKeyRefused{"api_key_refused"};
// Any other error that the server reported; its message says which.
inline constexpr ErrorCode kServerError{"server_error"};

// The error in a JSON body or event, if it is one.
std::optional<Error> read_api_error(const boost::json::value& body);

// What a reply with an error status means. `server` is its address.
Error error_of_reply(int status, std::string_view body, std::string_view server);

}  // namespace yoke::cli
