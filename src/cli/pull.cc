#include "cli/pull.h"

#include <atomic>
#include <csignal>
#include <cstdio>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_text.h"
#include "base/units.h"
#include "cli/model_place.h"
#include "cli/model_view.h"
#include "cli/pull_view.h"

namespace yoke::cli {
namespace {

namespace json = boost::json;

// A signal handler can reach nothing but globals.
std::atomic<bool> signalled{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int) { signalled = true; }

// While it lives, what ends a program only asks the pull to end. A signal that was ignored stays
// so.
class EndSignals {
 public:
  EndSignals() {
    signalled = false;
    take(SIGINT, on_signal, interrupt_);
    take(SIGTERM, on_signal, terminate_);
    take(SIGHUP, on_signal, hang_up_);
    // Both come back as errors of the calls that they strike.
    take(SIGPIPE, SIG_IGN, pipe_);
    take(SIGXFSZ, SIG_IGN, file_size_);
  }
  ~EndSignals() {
    ::sigaction(SIGINT, &interrupt_, nullptr);
    ::sigaction(SIGTERM, &terminate_, nullptr);
    ::sigaction(SIGHUP, &hang_up_, nullptr);
    ::sigaction(SIGPIPE, &pipe_, nullptr);
    ::sigaction(SIGXFSZ, &file_size_, nullptr);
  }
  EndSignals(const EndSignals&) = delete;
  EndSignals& operator=(const EndSignals&) = delete;

 private:
  static void take(int number, void (*handler)(int), struct sigaction& before) {
    struct sigaction action{};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    ::sigaction(number, &action, &before);
    if (before.sa_handler == SIG_IGN) ::sigaction(number, &before, nullptr);
  }

  struct sigaction interrupt_{};
  struct sigaction terminate_{};
  struct sigaction hang_up_{};
  struct sigaction pipe_{};
  struct sigaction file_size_{};
};

void print_done(const models::CatalogueEntry& entry, bool as_json) {
  if (as_json) {
    const json::object event{{"event", "done"}, {"model", entry_json(entry)}};
    fmt::print("{}\n", json_text(event));
    return;
  }
  const std::string kind = entry.quantization.empty() ? entry.format : entry.quantization;
  fmt::print("{} ({}, {}) is at {}\n", printable(entry.name), printable(kind),
             format_bytes(entry.bytes()), printable(entry.path.string()));
}

PullView view_for(bool as_json) {
  const Terminal terminal = Terminal::of(stderr);
  const auto style = as_json           ? PullView::Style::kJson
                     : terminal.styled ? PullView::Style::kBar
                                       : PullView::Style::kLines;
  return {style, terminal.width};
}

}  // namespace

Result<void> pull(const PullCommandOptions& options) {
  YOKE_TRY(const models::ModelReference reference, models::parse_reference(options.reference));
  models::PullOptions how;
  const ModelPlace place{.config_file = options.config_file, .model_dir = options.model_dir};
  YOKE_TRY(const config::Config config, config_of(place));
  how.model_dir = config.server.model_dir;
  how.name = options.name;
  how.hub = models::hub_access();
  how.connections = options.connections;
  how.projector = !options.no_projector;
  const EndSignals signals;
  how.cancel = &signalled;

  PullView view = view_for(options.json);
  // Progress is for people, the result for who asked for it.
  std::FILE* const stream = options.json ? stdout : stderr;
  const auto show = [stream](const std::string& text) {
    if (text.empty()) return;
    fmt::print(stream, "{}", text);
    std::fflush(stream);
  };
  how.on_progress = [&](const models::PullProgress& progress) {
    show(view.progress(progress, PullView::Clock::now()));
  };
  how.on_note = [&](const std::string& text) { show(view.note(text)); };
  Result<models::CatalogueEntry> got = models::pull(reference, how);
  show(view.end());
  if (!got) {
    Error error = std::move(got.error());
    if (error.code == models::kPullCancelled) error.code = kCancelled;
    return fail(std::move(error));
  }
  print_done(*got, options.json);
  return {};
}

}  // namespace yoke::cli
