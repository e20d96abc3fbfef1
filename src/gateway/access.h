// Who may use the gateway: the API key, and what keeps web pages of strangers from using a server
// on their visitor's own machine. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "http/message.h"

namespace yoke::gateway {

struct AccessRules {
  std::string api_key;                       // Empty: none is asked for.
  std::vector<std::string> allowed_origins;  // "*" is every origin.
};

// kInvalidApiKey, kOriginNotAllowed, kHostNotAllowed.
Result<void> check_access(const AccessRules& rules, const http::RequestHead& request);

// The value for Access-Control-Allow-Origin, or empty.
std::string allowed_origin(const AccessRules& rules, const http::RequestHead& request);

}  // namespace yoke::gateway
