#include "cli/api_error.h"

#include <fmt/format.h>

#include "base/json_fields.h"
#include "http/message.h"

namespace yoke::cli {

std::optional<Error> read_api_error(const boost::json::value& body) {
  const auto fields = JsonFields::of(body);
  if (!fields || !fields->has("error")) return std::nullopt;
  const auto error = fields->object("error");
  // Some servers send the bare text.
  if (!error)
    return Error{kServerError, fields->string_or("error", "The server reported an error.")};
  const std::string message = error->string_or("message", "The server reported an error.");
  const bool no_model = error->string_or("code", "") == kModelNotFound.name();
  return Error{no_model ? kModelNotFound : kServerError, message};
}

Error error_of_reply(int status, std::string_view body, std::string_view server) {
  std::optional<Error> error;
  if (const auto json = parse_json(body)) error = read_api_error(*json);
  if (status == 401) {
    return {kApiKeyRefused, fmt::format("The server at {} wants a valid API key.", server),
            "Put the key into YOKE_API_KEY, or name a file that holds it with --api-key-file."};
  }
  // A path that the server does not have: it is not the server that was meant.
  const bool wrong_path = status == 404 && !(error && error->code == kModelNotFound);
  if (error && !wrong_path) return *error;
  return {kServerError,
          fmt::format("{} answered {} {}, which no Yoke server of this version does.", server,
                      status, http::reason_phrase(status)),
          "Check the address that --url or YOKE_URL gives."};
}

}  // namespace yoke::cli
