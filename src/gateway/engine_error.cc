#include "gateway/engine_error.h"

#include <array>

#include <fmt/format.h>

#include "base/json_fields.h"
#include "gateway/api_error.h"
#include "supervisor/control_loop.h"
#include "supervisor/instance.h"

namespace yoke::gateway {
namespace {

struct Refusal {
  std::string_view type;  // The engine's name of it.
  ErrorCode code;
};

// llama-server's error types (server-common.h, error_type) as stable codes.
constexpr std::array kRefusals{
    Refusal{"exceed_context_size_error", kContextLengthExceeded},
    Refusal{"invalid_request_error", kRefusedByEngine},
    Refusal{"not_supported_error", kNotSupported},
    Refusal{"unavailable_error", supervisor::kModelLoading},
};

}  // namespace

Error engine_refusal(std::string_view model, int status, std::string_view body) {
  Error error{status < 500 ? kRefusedByEngine : kEngineError,
              fmt::format("The engine of the model '{}' answered with status {}.", model, status)};
  const auto document = parse_json(body);
  const auto fields = document ? JsonFields::of(*document) : fail(document.error());
  const auto details = fields ? fields->object("error") : fail(fields.error());
  if (!details) return error;
  error.message = details->string_or("message", error.message);
  const std::string type = details->string_or("type", "");
  for (const Refusal& refusal : kRefusals) {
    if (refusal.type == type) error.code = refusal.code;
  }
  return error;
}

Error engine_trouble(std::string_view model, const Error& error) {
  if (error.code == kTimeout) {
    return {kTimeout, fmt::format("The engine of the model '{}' did not answer in time.", model),
            "Raise first_byte_timeout or idle_timeout in [server] if that was too early."};
  }
  if (error.code == kCancelled) return error;
  return {supervisor::kEngineFailed,
          fmt::format("The engine of the model '{}' failed before its answer was complete.", model),
          "It is started again: repeat the request."};
}

}  // namespace yoke::gateway
