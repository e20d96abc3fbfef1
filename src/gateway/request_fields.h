// What the gateway has to know of a request's body to route it and to put it to an engine, found
// without building a document.
// Pure; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace yoke::gateway {

struct RequestFields {
  std::optional<std::string> model;
  bool stream = false;
  bool several_choices = false;  // More than one answer may come: n > 1, or a list of prompts.
  bool wants_progress = false;   // llama-server's return_progress.
  bool tools = false;            // A list of them.
  bool logprobs = false;
};

// Reads the whole body, so that what is no JSON object never reaches an engine. kInvalidJson with
// the place of the mistake; nesting is limited to 64 levels.
Result<RequestFields> read_request_fields(std::string_view body);

}  // namespace yoke::gateway
