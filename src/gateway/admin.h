// Yoke's own API under /yoke/v1, which `yoke ps` and `yoke logs` speak.
// Runs on the connection's thread.
#pragma once

#include <string>

#include "http/server.h"
#include "io/task.h"
#include "supervisor/control_loop.h"

namespace yoke::gateway {

// The body for GET /yoke/v1/instances.
std::string instances_json(const supervisor::RouteTable& table);

// GET /yoke/v1/logs?model=NAME&tail=N: {"lines":[...]}. With follow=true one event stream of the
// lines of all models, or of the one that is named, until the client leaves.
io::Task<Result<void>> reply_with_logs(http::Exchange& exchange, supervisor::ControlLoop& control,
                                       http::Headers extra_headers);

}  // namespace yoke::gateway
