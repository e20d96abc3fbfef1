#include "gateway/engine_error.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/json_fields.h"
#include "engines/failure.h"
#include "gateway/api_error.h"
#include "scheduler/effects.h"
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
    Refusal{"unavailable_error", scheduler::kModelLoading},
};

// llama-server's words, with status 500, for a text that an embedding model can't take in one
// batch.
constexpr std::string_view kTooLongForOneBatch = "too large to process";
// vLLM has one type for all that is wrong with a request.
constexpr std::string_view kTooLongForVllm = "maximum context length";

// The object that has "message" and "type".
Result<JsonFields> details_of(const boost::json::value& document) {
  YOKE_TRY(JsonFields fields, JsonFields::of(document));
  auto nested = fields.object("error");
  if (nested || fields.string_or("object", "") != "error") return nested;
  return fields;
}

ErrorCode code_of(int status, std::string_view type, std::string_view message) {
  const auto* const known = std::ranges::find(kRefusals, type, &Refusal::type);
  if (known != kRefusals.end()) return known->code;
  if (message.find(kTooLongForOneBatch) != std::string_view::npos) return kContextLengthExceeded;
  if (status >= 500 && engines::says_engine_is_broken(message)) return kEngineBroken;
  if (status >= 500) return kEngineError;
  const bool too_long = message.find(kTooLongForVllm) != std::string_view::npos;
  return too_long ? kContextLengthExceeded : kRefusedByEngine;
}

}  // namespace

int status_in_error_event(std::string_view event) {
  constexpr std::string_view kCode = "\"code\":";
  constexpr int kNone = 500;
  std::size_t at = event.find(kCode);
  if (at == std::string_view::npos) return kNone;
  at = std::min(event.find_first_not_of(' ', at + kCode.size()), event.size());
  int status = 0;
  std::from_chars(event.data() + at, event.data() + event.size(), status);
  return status >= 400 && status < 600 ? status : kNone;
}

Error engine_refusal(std::string_view model, int status, std::string_view body) {
  Error error{status < 500 ? kRefusedByEngine : kEngineError,
              fmt::format("The engine of the model '{}' answered with status {}.", model, status)};
  const auto document = parse_json(body);
  const auto details = document ? details_of(*document) : fail(document.error());
  if (!details) return error;
  error.message = details->string_or("message", error.message);
  error.code = code_of(status, details->string_or("type", ""), error.message);
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
