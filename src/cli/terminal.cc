#include "cli/terminal.h"

#include <cstdlib>
#include <sys/ioctl.h>
#include <unistd.h>

namespace yoke::cli {
namespace {

bool set_in_environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// The length of the control sequence (ESC [ parameters final) at the start of `text`, or 0.
std::size_t control_sequence_length(std::string_view text) {
  if (!text.starts_with("\x1b[")) return 0;
  for (std::size_t i = 2; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x40 && byte <= 0x7e) return i + 1;
    if (byte < 0x20 || byte > 0x3f) return 0;
  }
  return 0;
}

}  // namespace

Terminal Terminal::of(std::FILE* stream) {
  Terminal terminal;
  const int fd = ::fileno(stream);
  terminal.tty = ::isatty(fd) == 1;
  if (!terminal.tty) return terminal;
  const std::string_view kind = environment("TERM");
  terminal.styled = !set_in_environment("NO_COLOR") && !kind.empty() && kind != "dumb";
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0) terminal.width = size.ws_col;
  return terminal;
}

std::string Terminal::dim(std::string_view text) const {
  return styled ? "\x1b[2m" + std::string(text) + "\x1b[0m" : std::string(text);
}

std::string Terminal::bold(std::string_view text) const {
  return styled ? "\x1b[1m" + std::string(text) + "\x1b[0m" : std::string(text);
}

std::string printable(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text[0]);
    // U+0080 to U+009F do the same as ESC sequences on many terminals.
    const bool c1 = byte == 0xc2 && text.size() > 1 && static_cast<unsigned char>(text[1]) < 0xa0;
    const bool control = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    std::size_t take = c1 ? 2 : 1;
    if (const std::size_t sequence = control_sequence_length(text)) take = sequence;
    if (!c1 && !control) safe += text[0];
    text.remove_prefix(take);
  }
  return safe;
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) ++width;
  }
  return width;
}

void print_error(const Error& error) {
  std::fflush(stdout);
  std::fprintf(stderr, "yoke: %s\n", printable(error.message).c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "%s\n", printable(error.hint).c_str());
}

QuietInput::QuietInput() {
  if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
  termios quiet = before_;
  quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  changed_ = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet) == 0;
}

QuietInput::~QuietInput() {
  if (changed_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
}

}  // namespace yoke::cli
