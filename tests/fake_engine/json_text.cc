#include "fake_engine/json_text.h"

#include <cctype>
#include <charconv>
#include <cstdio>
#include <functional>

namespace fake_engine::json {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kEscapes = "\"\\/bfnrt";

// Walks over one document. Every method returns false at the first mistake.
class Scanner {
 public:
  using OnMember = std::function<void(std::string_view name, std::string_view value)>;
  using OnElement = std::function<void(std::string_view value)>;

  explicit Scanner(std::string_view text) : text_(text) {}

  bool at_end() {
    skip_blanks();
    return at_ == text_.size();
  }

  bool object(const OnMember& on_member) {
    if (!enter('{')) return false;
    if (take('}')) return leave();
    do {
      std::string_view name;
      std::string_view value;
      if (!slice(name, &Scanner::string) || !take(':') || !slice(value, &Scanner::value)) {
        return false;
      }
      if (on_member) on_member(name, value);
    } while (take(','));
    return take('}') && leave();
  }

  bool array(const OnElement& on_element) {
    if (!enter('[')) return false;
    if (take(']')) return leave();
    do {
      std::string_view element;
      if (!slice(element, &Scanner::value)) return false;
      if (on_element) on_element(element);
    } while (take(','));
    return take(']') && leave();
  }

 private:
  bool value() {
    switch (peek()) {
      case '{':
        return object({});
      case '[':
        return array({});
      case '"':
        return string();
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }

  bool string() {
    if (peek() != '"') return false;
    for (++at_; at_ < text_.size(); ++at_) {
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        ++at_;
        return true;
      }
      if (c < 0x20) return false;
      if (c == '\\' && !escape()) return false;
    }
    return false;
  }

  // Begins on the backslash and ends on the last character of the escape.
  bool escape() {
    ++at_;
    if (peek() != 'u') return peek() != '\0' && kEscapes.find(peek()) != kEscapes.npos;
    for (int digit = 0; digit < 4; ++digit) {
      ++at_;
      if (!std::isxdigit(static_cast<unsigned char>(peek()))) return false;
    }
    return true;
  }

  bool number() {
    if (peek() == '-') ++at_;
    if (peek() == '0') {
      ++at_;
    } else if (!digits()) {
      return false;
    }
    if (peek() == '.') {
      ++at_;
      if (!digits()) return false;
    }
    if (peek() != 'e' && peek() != 'E') return true;
    ++at_;
    if (peek() == '+' || peek() == '-') ++at_;
    return digits();
  }

  bool digits() {
    const size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }

  bool word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) return false;
    at_ += expected.size();
    return true;
  }

  bool slice(std::string_view& into, bool (Scanner::*part)()) {
    skip_blanks();
    const size_t start = at_;
    if (!(this->*part)()) return false;
    into = text_.substr(start, at_ - start);
    return true;
  }

  bool enter(char bracket) { return take(bracket) && ++depth_ <= kMaxDepth; }

  bool leave() {
    --depth_;
    return true;
  }

  bool take(char c) {
    skip_blanks();
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_blanks() {
    while (at_ < text_.size() && kBlanks.find(text_[at_]) != kBlanks.npos) ++at_;
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

void append_utf8(std::string& out, uint32_t code_point) {
  const auto byte = [&out](uint32_t value) { out += static_cast<char>(value); };
  if (code_point < 0x80) {
    byte(code_point);
  } else if (code_point < 0x800) {
    byte(0xC0 | code_point >> 6);
    byte(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    byte(0xE0 | code_point >> 12);
    byte(0x80 | (code_point >> 6 & 0x3F));
    byte(0x80 | (code_point & 0x3F));
  } else {
    byte(0xF0 | code_point >> 18);
    byte(0x80 | (code_point >> 12 & 0x3F));
    byte(0x80 | (code_point >> 6 & 0x3F));
    byte(0x80 | (code_point & 0x3F));
  }
}

// The four hex digits at `at`; the scanner has checked that they are there.
uint32_t read_hex4(std::string_view text, size_t at) {
  uint32_t value = 0;
  const std::string_view digits = text.substr(at, 4);
  std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return value;
}

// Reads the `\uXXXX` at `at` and the low half of a surrogate pair behind it. Returns its length.
size_t append_unicode_escape(std::string& out, std::string_view text, size_t at) {
  uint32_t code_point = read_hex4(text, at + 2);
  size_t length = 6;
  if (code_point >= 0xD800 && code_point < 0xDC00 && text.substr(at + 6, 2) == "\\u") {
    const uint32_t low = read_hex4(text, at + 8);
    if (low >= 0xDC00 && low < 0xE000) {
      code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
      length = 12;
    }
  }
  append_utf8(out, code_point);
  return length;
}

char unescape(char kind) {
  switch (kind) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return kind;
  }
}

}  // namespace

std::optional<Members> read_object(std::string_view text) {
  Members members;
  Scanner scanner(text);
  const bool well_formed = scanner.object([&](std::string_view name, std::string_view value) {
    members.insert_or_assign(as_string(name).value_or(""), value);
  });
  if (!well_formed || !scanner.at_end()) return std::nullopt;
  return members;
}

std::optional<std::string_view> last_element(std::string_view array) {
  std::optional<std::string_view> last;
  if (!Scanner(array).array([&](std::string_view element) { last = element; })) return std::nullopt;
  return last;
}

std::optional<std::vector<std::string_view>> elements(std::string_view array) {
  std::vector<std::string_view> found;
  if (!Scanner(array).array([&](std::string_view element) { found.push_back(element); })) {
    return std::nullopt;
  }
  return found;
}

std::optional<int64_t> count_elements(std::string_view array) {
  int64_t count = 0;
  if (!Scanner(array).array([&](std::string_view) { ++count; })) return std::nullopt;
  return count;
}

std::optional<std::string> as_string(std::string_view value) {
  if (value.size() < 2 || value.front() != '"') return std::nullopt;
  const std::string_view inner = value.substr(1, value.size() - 2);
  std::string out;
  out.reserve(inner.size());
  for (size_t at = 0; at < inner.size();) {
    if (inner[at] != '\\') {
      out += inner[at++];
    } else if (inner[at + 1] == 'u') {
      at += append_unicode_escape(out, inner, at);
    } else {
      out += unescape(inner[at + 1]);
      at += 2;
    }
  }
  return out;
}

std::optional<int64_t> as_integer(std::string_view value) {
  int64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

bool is_true(std::string_view value) { return value == "true"; }

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace fake_engine::json
