// JSON as text for programs and people. Pure; any thread.
#pragma once

#include <string>

#include <boost/json/value.hpp>

namespace yoke {

// As boost::json::serialize, but with numbers as people write them: 12.345 and not 1.2345E1.
std::string json_text(const boost::json::value& value);

// The same over several lines, two spaces per level; what fits into a line of 100 stays on one.
std::string pretty_json_text(const boost::json::value& value);

}  // namespace yoke
