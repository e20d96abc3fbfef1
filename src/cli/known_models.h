// The models that a server has, for messages about one that it does not have. Main thread only.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/server_client.h"

namespace yoke::cli {

// From GET /v1/models.
Result<std::vector<std::string>> known_models(const ServerClient& client);

// kModelNotFound, with the models that there are and the one that may have been meant.
Error unknown_model(std::string_view model, const std::vector<std::string>& known);

// `error`, but a kModelNotFound with what the server knows added to it.
Error with_known_models(const ServerClient& client, std::string_view model, Error error);

}  // namespace yoke::cli
