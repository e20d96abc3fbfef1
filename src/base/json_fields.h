// Reading the fields of a JSON object that somebody else wrote: unknown fields are passed over, a
// field of the wrong type is an error that names its path ("models[2].ctx: expected an integer").
// JsonFields refers to the value it was made from and must not outlive it. One thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/result.h"

namespace yoke {

inline constexpr ErrorCode kInvalidJson{"invalid_json"};

// Parses one JSON document; nesting is limited to 64 levels.
Result<boost::json::value> parse_json(std::string_view text);

class JsonFields {
 public:
  // `path` is where the value stands in its document, empty for the document itself.
  static Result<JsonFields> of(const boost::json::value& value, std::string path = {});

  Result<std::string> string(std::string_view name) const;
  Result<std::int64_t> integer(std::string_view name) const;
  Result<double> number(std::string_view name) const;
  Result<bool> boolean(std::string_view name) const;
  Result<JsonFields> object(std::string_view name) const;
  // The elements of an array of objects.
  Result<std::vector<JsonFields>> objects(std::string_view name) const;

  // Absent and null are the same to readers of an API.
  bool has(std::string_view name) const;
  std::string string_or(std::string_view name, std::string_view fallback) const;
  std::int64_t integer_or(std::string_view name, std::int64_t fallback) const;

 private:
  JsonFields(const boost::json::object& object, std::string path)
      : object_(&object), path_(std::move(path)) {}
  std::string path_of(std::string_view name) const;
  Result<const boost::json::value*> find(std::string_view name) const;

  const boost::json::object* object_;
  std::string path_;
};

}  // namespace yoke
