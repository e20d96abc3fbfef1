// Error: what every fallible function of Yoke hands back in place of a value.
// A plain value, owned by whoever holds it; any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace yoke {

// A stable name of a kind of error ("model_not_found"), the same in API replies, logs and
// docs/errors.md. Each module declares its own as constants; the name must be a literal.
class ErrorCode {
 public:
  consteval explicit ErrorCode(const char* name) : name_(name) {}
  constexpr std::string_view name() const { return name_; }
  friend constexpr bool operator==(ErrorCode a, ErrorCode b) { return a.name() == b.name(); }

 private:
  const char* name_;
};

struct Error {
  ErrorCode code;
  std::string message;  // What happened, one sentence without secrets.
  std::string hint{};   // What the user can do next; may be empty.
  // When the same may succeed; 0: not as things are. None: nobody knows.
  std::optional<std::chrono::milliseconds> retry_after{};

  // Message and hint as one text for logs and API replies.
  std::string text() const { return hint.empty() ? message : message + " " + hint; }
};

// Used across modules; the rest lie in the module that reports them.
inline constexpr ErrorCode kInternal{"internal_error"};
inline constexpr ErrorCode kInvalidArgument{"invalid_argument"};
inline constexpr ErrorCode kTimeout{"timeout"};
inline constexpr ErrorCode kCancelled{"cancelled"};
inline constexpr ErrorCode kIo{"io_error"};

}  // namespace yoke
