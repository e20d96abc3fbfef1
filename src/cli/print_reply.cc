#include "cli/print_reply.h"

#include <cstdio>
#include <utility>

#include "cli/answer_view.h"

namespace yoke::cli {

Result<void> print_reply(const ConnectOptions& connect, Call call, bool json,
                         const FormatReply& format) {
  const Interrupts interrupts;
  YOKE_TRY(const ServerClient client, ServerClient::create(connect, &interrupts));
  std::string text;
  if (json) {
    YOKE_TRY(text, client.fetch(std::move(call)));
    if (!text.ends_with('\n')) text += '\n';
  } else {
    YOKE_TRY(const boost::json::value reply, client.fetch_json(std::move(call)));
    YOKE_TRY(text, format(reply));
  }
  std::fputs(text.c_str(), stdout);
  return flush_stdout();
}

}  // namespace yoke::cli
