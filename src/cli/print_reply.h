// A command that asks the server one thing and prints what it answers. Main thread only.
#pragma once

#include <functional>
#include <string>

#include <boost/json/value.hpp>

#include "base/result.h"
#include "cli/server_client.h"

namespace yoke::cli {

using FormatReply = std::function<Result<std::string>(const boost::json::value& reply)>;

// To stdout: as it came with `json`, else as `format` makes it. Errors of ServerClient and
// `format`.
Result<void> print_reply(const ConnectOptions& connect, Call call, bool json,
                         const FormatReply& format);

}  // namespace yoke::cli
