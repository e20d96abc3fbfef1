// Which headers the relay passes on: not those that concern one connection only, or Yoke's own
// access rules. Pure; any thread.
#pragma once

#include "http/message.h"

namespace yoke::gateway {

http::Headers headers_for_engine(const http::Headers& from_client);
http::Headers headers_for_client(const http::Headers& from_engine);

}  // namespace yoke::gateway
