// `yoke show`: what a model is, without loading it. Main thread only.
#pragma once

#include <string>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/result.h"
#include "cli/model_place.h"
#include "cli/terminal.h"
#include "gguf/model.h"
#include "gguf/summary.h"

namespace yoke::cli {

struct ShowOptions {
  std::string file;            // Of a split model, the first part; or a model's name.
  bool json = false;           // With `tensors`: of both.
  bool chat_template = false;  // Print only that.
  bool tensors = false;        // List them.
  ModelPlace place{};          // Where names are looked for.
};

// Errors of gguf::open_model, config_of and Catalogue; kInvalidArgument if a chat template is asked
// for and there is none.
Result<void> show(const ShowOptions& options);

// The summary for people, wrapped at the terminal's width. `file` is how the user named it.
std::string format_summary(const gguf::Summary& summary, const std::string& file,
                           const Terminal& terminal);
boost::json::object summary_json(const gguf::Summary& summary, const std::string& file);

// The tensors for people, one line each, and for programs.
std::string format_tensors(const gguf::Model& model, const Terminal& terminal);
boost::json::array tensors_json(const gguf::Model& model);

}  // namespace yoke::cli
