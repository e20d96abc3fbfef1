// JSON as text for programs and people. Pure; any thread.
#pragma once

#include <string>
#include <string_view>

#include <boost/json/string.hpp>
#include <boost/json/value.hpp>

namespace yoke {

// As boost::json::serialize, but with numbers as people write them: 12.345 and not 1.2345E1.
std::string json_text(const boost::json::value& value);

// The same over several lines, two spaces per level; what fits into a line of 100 stays on one.
std::string pretty_json_text(const boost::json::value& value);

// Text that may be anything, a path say: JSON takes only UTF-8, and what is not becomes U+FFFD.
boost::json::string utf8_json(std::string_view text);

}  // namespace yoke
