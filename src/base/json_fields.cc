#include "base/json_fields.h"

#include <boost/json/parse.hpp>
#include <fmt/format.h>

namespace yoke {
namespace {

tl::unexpected<Error> wrong_type(const std::string& path, std::string_view expected) {
  return fail(kInvalidJson,
              fmt::format("{}: expected {}.", path.empty() ? "document" : path, expected));
}

}  // namespace

Result<boost::json::value> parse_json(std::string_view text) {
  boost::json::parse_options options;
  options.max_depth = 64;
  boost::system::error_code error;
  boost::json::value value = boost::json::parse({text.data(), text.size()}, error, {}, options);
  if (error) return fail(kInvalidJson, fmt::format("This is no valid JSON: {}.", error.message()));
  return value;
}

Result<JsonFields> JsonFields::of(const boost::json::value& value, std::string path) {
  const auto* object = value.if_object();
  if (object == nullptr) return wrong_type(path, "an object");
  return JsonFields(*object, std::move(path));
}

std::string JsonFields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

Result<const boost::json::value*> JsonFields::find(std::string_view name) const {
  const auto* value = object_->if_contains({name.data(), name.size()});
  if (value == nullptr || value->is_null()) {
    return fail(kInvalidJson, fmt::format("{}: is missing.", path_of(name)));
  }
  return value;
}

Result<std::string> JsonFields::string(std::string_view name) const {
  YOKE_TRY(const auto* value, find(name));
  const auto* text = value->if_string();
  if (text == nullptr) return wrong_type(path_of(name), "a string");
  return std::string(*text);
}

Result<std::int64_t> JsonFields::integer(std::string_view name) const {
  YOKE_TRY(const auto* value, find(name));
  boost::system::error_code error;
  const auto number = value->to_number<std::int64_t>(error);
  if (error) return wrong_type(path_of(name), "an integer");
  return number;
}

Result<double> JsonFields::number(std::string_view name) const {
  YOKE_TRY(const auto* value, find(name));
  boost::system::error_code error;
  const auto number = value->to_number<double>(error);
  if (error) return wrong_type(path_of(name), "a number");
  return number;
}

Result<bool> JsonFields::boolean(std::string_view name) const {
  YOKE_TRY(const auto* value, find(name));
  const auto* flag = value->if_bool();
  if (flag == nullptr) return wrong_type(path_of(name), "true or false");
  return *flag;
}

Result<JsonFields> JsonFields::object(std::string_view name) const {
  YOKE_TRY(const auto* value, find(name));
  return of(*value, path_of(name));
}

Result<std::vector<JsonFields>> JsonFields::objects(std::string_view name) const {
  YOKE_TRY(const auto* value, find(name));
  const auto* array = value->if_array();
  if (array == nullptr) return wrong_type(path_of(name), "an array");
  std::vector<JsonFields> elements;
  elements.reserve(array->size());
  for (const auto& element : *array) {
    YOKE_TRY(auto fields, of(element, fmt::format("{}[{}]", path_of(name), elements.size())));
    elements.push_back(std::move(fields));
  }
  return elements;
}

bool JsonFields::has(std::string_view name) const { return find(name).has_value(); }

std::string JsonFields::string_or(std::string_view name, std::string_view fallback) const {
  return string(name).value_or(std::string(fallback));
}

std::int64_t JsonFields::integer_or(std::string_view name, std::int64_t fallback) const {
  return integer(name).value_or(fallback);
}

}  // namespace yoke
