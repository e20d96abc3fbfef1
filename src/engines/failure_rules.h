// The signatures of failures in engines' logs: tables for failure.cc alone. Any thread.
#pragma once

#include <span>
#include <string_view>

#include "engines/failure.h"

namespace yoke::engines {

struct FailureRule {
  FailureClass cls;
  std::string_view pattern;  // A part of the line; '*' stands for anything.
  std::string_view summary;  // Empty: that of the class.
};

// Of these and then those the first rule that matches any line decides, so causes stand before
// their consequences.
std::span<const FailureRule> llama_cpp_failures();  // And of GPUs' drivers and runtimes.
std::span<const FailureRule> vllm_failures();       // And of PyTorch.

// The engine goes on after a line with one of these, so what went wrong before it is not why it
// died.
std::span<const std::string_view> overcome_marks();

// Parts of an error that a living engine answers with when it can't compute any more.
std::span<const std::string_view> broken_marks();

}  // namespace yoke::engines
