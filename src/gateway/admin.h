// Yoke's own API under /yoke/v1, which `yoke ps`, `yoke logs` and the like speak.
// Runs on the connection's thread.
#pragma once

#include <string>
#include <string_view>

#include "http/server.h"
#include "io/task.h"
#include "supervisor/control_loop.h"

namespace yoke::gateway {

inline constexpr std::string_view kExplainPath = "/yoke/v1/explain";
inline constexpr std::string_view kQuarantinePath = "/yoke/v1/quarantine";

// The body for GET /yoke/v1/instances.
std::string instances_json(const supervisor::RouteTable& table);

// GET /yoke/v1/logs?model=NAME&tail=N: {"lines":[...]}. With follow=true one event stream of the
// lines of all models, or of the one that is named, until the client leaves.
io::Task<Result<void>> reply_with_logs(http::Exchange& exchange, supervisor::ControlLoop& control,
                                       http::Headers extra_headers);

// The body for GET kExplainPath?model=NAME. kModelRequired, kModelNotFound, kMethodNotAllowed.
io::Task<Result<std::string>> explain(supervisor::ControlLoop& control,
                                      const http::RequestHead& request);

// The body for GET kQuarantinePath: {"quarantines":[...]}, and for DELETE with ?model=NAME and
// &backend=NAME, both optional: {"cleared":N}. kModelNotFound, kMethodNotAllowed.
io::Task<Result<std::string>> quarantine(supervisor::ControlLoop& control,
                                         const http::RequestHead& request);

}  // namespace yoke::gateway
