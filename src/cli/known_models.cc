#include "cli/known_models.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json_fields.h"
#include "base/nearest.h"
#include "cli/api_error.h"

namespace yoke::cli {

Result<std::vector<std::string>> known_models(const ServerClient& client) {
  Call call{.target = "/v1/models"};
  YOKE_TRY(const boost::json::value json, client.fetch_json(std::move(call)));
  YOKE_TRY(const JsonFields body, JsonFields::of(json));
  YOKE_TRY(const std::vector<JsonFields> entries, body.objects("data"));
  std::vector<std::string> names;
  for (const JsonFields& entry : entries) {
    YOKE_TRY(std::string name, entry.string("id"));
    names.push_back(std::move(name));
  }
  return names;
}

Error unknown_model(std::string_view model, const std::vector<std::string>& known) {
  Error error{kModelNotFound, fmt::format("The server has no model '{}'.", model)};
  if (known.empty()) {
    error.hint = "It has none at all: add one to its configuration.";
    return error;
  }
  const std::vector<std::string_view> names(known.begin(), known.end());
  if (const auto meant = nearest(model, names))
    error.hint = fmt::format("Did you mean {}? ", *meant);
  error.hint += fmt::format("It has: {}.", fmt::join(known, ", "));
  return error;
}

Error with_known_models(const ServerClient& client, std::string_view model, Error error) {
  if (error.code != kModelNotFound) return error;
  const auto known = known_models(client);
  return known ? unknown_model(model, *known) : error;
}

}  // namespace yoke::cli
