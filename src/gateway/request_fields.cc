#include "gateway/request_fields.h"

#include <algorithm>

#include <boost/json/basic_parser_impl.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"

namespace yoke::gateway {
namespace {

using boost::system::error_code;
using JsonText = boost::json::string_view;

constexpr std::size_t kMaxModelName = 1024;

// Boost.JSON's event interface; `*_part` events come before the last piece of a long text.
class Handler {
 public:
  // NOLINTBEGIN(readability-identifier-naming): Boost.JSON's names.
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);
  // NOLINTEND(readability-identifier-naming)

  RequestFields fields;
  bool is_object = false;
  bool model_is_string = true;

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    if (depth_ == 0) is_object = true;
    return open();
  }
  bool on_object_end(std::size_t, error_code&) { return close(); }
  bool on_array_begin(error_code&) {
    if (at_ == Place::kPrompt) fields.several_choices = true;
    if (at_ == Place::kTools) fields.tools = true;
    return open();
  }
  bool on_array_end(std::size_t, error_code&) { return close(); }

  bool on_key_part(JsonText text, std::size_t, error_code&) { return add(key_, text); }
  bool on_key(JsonText text, std::size_t, error_code&) {
    add(key_, text);
    at_ = depth_ == 1 ? place_of(key_) : Place::kElsewhere;
    key_.clear();
    return true;
  }
  bool on_string_part(JsonText text, std::size_t, error_code&) {
    return at_ != Place::kModel || add(value_, text);
  }
  bool on_string(JsonText text, std::size_t, error_code&) {
    if (at_ == Place::kModel) {
      add(value_, text);
      fields.model = std::exchange(value_, {});
      model_is_string = true;
    }
    return scalar_done();
  }
  bool on_number_part(JsonText, error_code&) { return true; }
  bool on_int64(std::int64_t value, JsonText, error_code&) {
    if (at_ == Place::kChoices && value > 1) fields.several_choices = true;
    return other_scalar();
  }
  bool on_uint64(std::uint64_t, JsonText, error_code&) { return other_scalar(); }
  bool on_double(double, JsonText, error_code&) { return other_scalar(); }
  bool on_bool(bool value, error_code&) {
    if (at_ == Place::kStream) fields.stream = value;
    if (at_ == Place::kProgress) fields.wants_progress = value;
    if (at_ == Place::kLogprobs) fields.logprobs = value;
    return other_scalar();
  }
  bool on_null(error_code&) { return scalar_done(); }
  bool on_comment_part(JsonText, error_code&) { return true; }
  bool on_comment(JsonText, error_code&) { return true; }

 private:
  // The field of the request that the parser is at.
  enum class Place { kElsewhere, kModel, kStream, kChoices, kPrompt, kProgress, kTools, kLogprobs };

  static Place place_of(std::string_view key) {
    if (key == "model") return Place::kModel;
    if (key == "stream") return Place::kStream;
    if (key == "n") return Place::kChoices;
    if (key == "prompt") return Place::kPrompt;
    if (key == "return_progress") return Place::kProgress;
    if (key == "tools") return Place::kTools;
    if (key == "logprobs") return Place::kLogprobs;
    return Place::kElsewhere;
  }
  bool open() {
    if (at_ == Place::kModel) model_is_string = false;
    at_ = Place::kElsewhere;
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }
  bool other_scalar() {
    if (at_ == Place::kModel) model_is_string = false;
    return scalar_done();
  }
  bool scalar_done() {
    at_ = Place::kElsewhere;
    return true;
  }
  static bool add(std::string& text, JsonText more) {
    text.append(more.data(), std::min(more.size(), kMaxModelName - text.size()));
    return true;
  }

  int depth_ = 0;
  Place at_ = Place::kElsewhere;
  std::string key_;
  std::string value_;
};

}  // namespace

Result<RequestFields> read_request_fields(std::string_view body) {
  boost::json::parse_options options;
  options.max_depth = 64;
  boost::json::basic_parser<Handler> parser(options);
  error_code error;
  const std::size_t read = parser.write_some(false, body.data(), body.size(), error);
  if (!error && read < body.size()) error = boost::json::error::extra_data;
  if (error) {
    return fail(kInvalidJson, fmt::format("The request's body is no valid JSON: {} at byte {}.",
                                          error.message(), read));
  }
  const Handler& handler = parser.handler();
  if (!handler.is_object) return fail(kInvalidJson, "The request's body must be a JSON object.");
  if (!handler.model_is_string) return fail(kInvalidJson, "model: expected a string.");
  return handler.fields;
}

}  // namespace yoke::gateway
