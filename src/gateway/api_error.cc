#include "gateway/api_error.h"

#include <array>
#include <optional>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/json_fields.h"
#include "config/config.h"
#include "engines/install.h"
#include "engines/model_file.h"
#include "gateway/engine_error.h"
#include "scheduler/effects.h"
#include "supervisor/control_loop.h"
#include "supervisor/instance.h"

namespace yoke::gateway {
namespace {

struct StatusOfCode {
  ErrorCode code;
  int status;
};

constexpr std::array kStatuses{
    StatusOfCode{http::kBadRequest, 400},
    StatusOfCode{kInvalidJson, 400},
    StatusOfCode{kInvalidArgument, 400},
    StatusOfCode{kModelRequired, 400},
    StatusOfCode{kWrongModelType, 400},
    StatusOfCode{kContextLengthExceeded, 400},
    StatusOfCode{kRefusedByEngine, 400},
    StatusOfCode{config::kConfigInvalid, 400},
    StatusOfCode{config::kConfigNotFound, 400},
    StatusOfCode{config::kApiKeyRequired, 400},
    StatusOfCode{kInvalidApiKey, 401},
    StatusOfCode{kOriginNotAllowed, 403},
    StatusOfCode{kHostNotAllowed, 403},
    StatusOfCode{kNotFound, 404},
    StatusOfCode{scheduler::kModelNotFound, 404},
    StatusOfCode{kMethodNotAllowed, 405},
    StatusOfCode{http::kBodyTooLarge, 413},
    StatusOfCode{http::kHeaderTooLarge, 431},
    StatusOfCode{kNotSupported, 501},
    StatusOfCode{kEngineError, 502},
    StatusOfCode{kTimeout, 504},
    StatusOfCode{supervisor::kEngineFailed, 503},
    StatusOfCode{supervisor::kWorkerLost, 503},
    StatusOfCode{kEngineBroken, 503},
    StatusOfCode{kCannotContinue, 503},
    StatusOfCode{scheduler::kModelLoading, 503},
    // Not 429: it is the server that has too much to do, whoever asks.
    StatusOfCode{scheduler::kModelBusy, 503},
    StatusOfCode{scheduler::kModelTooLarge, 503},
    StatusOfCode{scheduler::kBlockedByPin, 503},
    StatusOfCode{scheduler::kModelUnloaded, 503},
    StatusOfCode{supervisor::kShuttingDown, 503},
    StatusOfCode{engines::kModelFileMissing, 503},
    StatusOfCode{engines::kEngineNotFound, 503},
    StatusOfCode{engines::kEngineUnusable, 503},
    StatusOfCode{engines::kModelFileInvalid, 503},
};

// Of an error that does not say when to try again.
constexpr std::chrono::seconds kRetryAfter{5};

// None if trying again is of no use as things are.
std::optional<std::chrono::seconds> retry_after(int status, const Error& error) {
  if (error.retry_after) {
    if (*error.retry_after <= std::chrono::milliseconds(0)) return std::nullopt;
    return std::chrono::ceil<std::chrono::seconds>(*error.retry_after);
  }
  if (error.code == scheduler::kModelTooLarge || error.code == scheduler::kBlockedByPin) {
    return std::nullopt;
  }
  return status == 503 ? std::optional(kRetryAfter) : std::nullopt;
}

std::string_view type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

}  // namespace

int status_of(ErrorCode code) {
  for (const StatusOfCode& entry : kStatuses) {
    if (entry.code == code) return entry.status;
  }
  return 500;
}

std::string error_body(int status, const Error& error) {
  const std::string_view type = type_of(status);
  const std::string_view code = error.code.name();
  boost::json::object fields;
  fields["message"] = error.text();
  fields["type"] = boost::json::string_view(type.data(), type.size());
  fields["param"] = nullptr;
  fields["code"] = boost::json::string_view(code.data(), code.size());
  boost::json::object body;
  body["error"] = std::move(fields);
  return boost::json::serialize(body);
}

ErrorReply error_reply(const Error& error) {
  const int status = status_of(error.code);
  ErrorReply reply{{status, {{"Content-Type", "application/json"}}}, error_body(status, error)};
  if (const auto seconds = retry_after(status, error)) {
    reply.head.headers.set("Retry-After", std::to_string(seconds->count()));
  }
  if (status == 401) reply.head.headers.set("WWW-Authenticate", "Bearer");
  return reply;
}

}  // namespace yoke::gateway
