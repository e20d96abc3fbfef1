// Errors as clients see them: an HTTP status and a body in OpenAI's form. Pure; any thread.
#pragma once

#include <string>

#include "base/error.h"
#include "http/message.h"

namespace yoke::gateway {

// Errors of this module; docs/errors.md explains each.
inline constexpr ErrorCode kNotFound{"not_found"};
inline constexpr ErrorCode kMethodNotAllowed{"method_not_allowed"};
inline constexpr ErrorCode kModelRequired{"model_required"};
inline constexpr ErrorCode kWrongModelType{"wrong_model_type"};
inline constexpr ErrorCode kContextLengthExceeded{"context_length_exceeded"};
inline constexpr ErrorCode kRefusedByEngine{"refused_by_engine"};
inline constexpr ErrorCode kNotSupported{"not_supported"};
inline constexpr ErrorCode kEngineError{"engine_error"};
inline constexpr ErrorCode kCannotContinue{"cannot_continue"};
inline constexpr ErrorCode kInvalidApiKey{"invalid_api_key"};
inline constexpr ErrorCode kOriginNotAllowed{"origin_not_allowed"};
inline constexpr ErrorCode kHostNotAllowed{"host_not_allowed"};

// The status that goes with a code; 500 for one that is not meant for clients.
int status_of(ErrorCode code);

// {"error":{"message":...,"type":...,"param":null,"code":...}}
std::string error_body(int status, const Error& error);

struct ErrorReply {
  http::ResponseHead head;
  std::string body;
};

// With WWW-Authenticate where the status asks for it, and with Retry-After where the error says
// when to try again (a 503 that says nothing of it: 5 seconds).
ErrorReply error_reply(const Error& error);

}  // namespace yoke::gateway
