// What llama.cpp decides by a model's architecture and does not read from its header. Private to
// the planner; pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace yoke::planner {

enum class Window {
  kNone,      // No sliding window, whatever the header says.
  kIfGiven,   // In the layers of the pattern, if the header names a window.
  kAttended,  // The same, but only layers that attend at all, and all of these.
};

struct Architecture {
  std::string_view name;
  Window window = Window::kNone;
  std::uint32_t window_period = 0;     // Of so many layers one attends to everything,
  bool full_first = false;             // the first of them; else the last.
  std::uint64_t default_window = 0;    // In tokens, where the header says nothing.
  bool cached = true;                  // False: a model that sees its text whole (BERT).
  bool state_beside_keys = false;      // A layer with a recurrent state has keys and values too.
  std::uint32_t layers_with_keys = 0;  // From the front; the rest share theirs. 0: all.
};

// Whether Yoke's figures for it were compared with what llama.cpp v0.5.0 reports.
bool is_measured(std::string_view name);

// One without anything special for a name that is not in the table.
Architecture architecture_of(std::string_view name);

}  // namespace yoke::planner
