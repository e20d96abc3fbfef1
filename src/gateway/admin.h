// Yoke's own API under /yoke/v1, which `yoke ps`, `yoke load` and the like speak.
// Runs on the connection's thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/gateway.h"
#include "http/server.h"
#include "io/task.h"
#include "supervisor/control_loop.h"

namespace yoke::gateway {

inline constexpr std::string_view kExplainPath = "/yoke/v1/explain";
inline constexpr std::string_view kInstancesPath = "/yoke/v1/instances";
inline constexpr std::string_view kQuarantinePath = "/yoke/v1/quarantine";
inline constexpr std::string_view kReloadPath = "/yoke/v1/reload";

// Of the requests here: nobody has more to say.
inline constexpr std::uint64_t kMaxAdminBody = 64u << 10;

// What can be asked for a model.
enum class Command { kLoad, kUnload, kPin, kUnpin };

// None if there is none at this path.
std::optional<Command> command_at(std::string_view path);

struct CommandRequest {
  std::string model;
  bool wait = false;  // Of a load: until the model is ready.
};

// From {"model": NAME, "wait": true}. kInvalidJson, kModelRequired.
Result<CommandRequest> read_command(std::string_view body);

// {"model":NAME,"state":...}. A load that waits does so for `patience` at most; cancel it when the
// client leaves. kModelNotFound, and why it can't be loaded.
io::Task<Result<std::string>> carry_out(supervisor::ControlLoop& control, Command command,
                                        CommandRequest request, std::chrono::milliseconds patience);

// The body for POST kReloadPath.
std::string reload_json(const ReloadReport& report);

// The body for GET kInstancesPath.
std::string instances_json(const supervisor::RouteTable& table,
                           const supervisor::Residency& residency);

// GET /yoke/v1/logs?model=NAME&tail=N: {"lines":[...]}. With follow=true one event stream of the
// lines of all models, or of the one that is named, until the client leaves.
io::Task<Result<void>> reply_with_logs(http::Exchange& exchange, supervisor::ControlLoop& control,
                                       http::Headers extra_headers);

// The body for GET kInstancesPath. kMethodNotAllowed.
io::Task<Result<std::string>> instances(supervisor::ControlLoop& control,
                                        const http::RequestHead& request);

// The body for GET kExplainPath?model=NAME. kModelRequired, kModelNotFound, kMethodNotAllowed.
io::Task<Result<std::string>> explain(supervisor::ControlLoop& control,
                                      const http::RequestHead& request);

// The body for GET kQuarantinePath: {"quarantines":[...]}, and for DELETE with ?model=NAME and
// &backend=NAME, both optional: {"cleared":N}. kModelNotFound, kMethodNotAllowed.
io::Task<Result<std::string>> quarantine(supervisor::ControlLoop& control,
                                         const http::RequestHead& request);

}  // namespace yoke::gateway
