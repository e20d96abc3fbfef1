// The log, in llama-server's form: `0.00.012.345 I text` on stderr.
// Callable from every thread; each line is one write, so that lines never mix.
#pragma once

#include <string_view>

namespace fake_engine {

struct LogFormat {
  bool prefix = true;
  bool timestamps = true;
};

// Call before the first thread starts.
void set_log_format(LogFormat format);

// `level` is llama-server's letter: 'I', 'W' or 'E'.
void log_line(char level, std::string_view text);

// Writes the text as it is, with a line end if it has none: for scripted driver messages, which
// carry no prefix.
void log_raw(std::string_view text);

}  // namespace fake_engine
