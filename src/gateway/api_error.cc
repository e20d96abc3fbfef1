#include "gateway/api_error.h"

#include <array>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/json_fields.h"
#include "engines/install.h"
#include "engines/model_file.h"
#include "gateway/engine_error.h"
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
    StatusOfCode{kInvalidApiKey, 401},
    StatusOfCode{kOriginNotAllowed, 403},
    StatusOfCode{kHostNotAllowed, 403},
    StatusOfCode{kNotFound, 404},
    StatusOfCode{supervisor::kModelNotFound, 404},
    StatusOfCode{kMethodNotAllowed, 405},
    StatusOfCode{http::kBodyTooLarge, 413},
    StatusOfCode{http::kHeaderTooLarge, 431},
    StatusOfCode{kNotSupported, 501},
    StatusOfCode{kEngineError, 502},
    StatusOfCode{kTimeout, 504},
    StatusOfCode{supervisor::kEngineFailed, 503},
    StatusOfCode{kEngineBroken, 503},
    StatusOfCode{kCannotContinue, 503},
    StatusOfCode{supervisor::kModelLoading, 503},
    StatusOfCode{supervisor::kShuttingDown, 503},
    StatusOfCode{engines::kModelFileMissing, 503},
    StatusOfCode{engines::kModelFileInvalid, 503},
};

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
  if (status == 503) reply.head.headers.set("Retry-After", "5");
  if (status == 401) reply.head.headers.set("WWW-Authenticate", "Bearer");
  return reply;
}

}  // namespace yoke::gateway
