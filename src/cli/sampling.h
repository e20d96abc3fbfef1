// How the next token is chosen, as far as the user said so. A value; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/result.h"

namespace yoke::cli {

struct Sampling {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int64_t> max_tokens;
  std::optional<std::int64_t> seed;

  // By name as in the API ("max_tokens", also written "max-tokens"); the value "default" leaves the
  // choice to the server. kInvalidArgument.
  Result<void> set(std::string_view name, std::string_view value);

  void add_to(boost::json::object& request) const;
  // One "name value" per line.
  std::string describe() const;
};

}  // namespace yoke::cli
