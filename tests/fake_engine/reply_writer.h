// Frames one HTTP reply: with its length, chunked, or up to the end of the connection.
// Used by one connection thread, for one request.
#pragma once

#include <string>
#include <string_view>

#include "fake_engine/behaviour.h"
#include "fake_engine/connection.h"
#include "fake_engine/http.h"

namespace fake_engine {

class ReplyWriter {
 public:
  // `keep_alive`: whether the connection may be used again after a good reply.
  ReplyWriter(Connection& connection, const HttpRequest& request, bool keep_alive);

  // Takes over how the script wants this reply framed.
  void use(const Behaviour& behaviour);

  Wait send(int status, std::string_view content_type, std::string_view body);
  Wait send_json(int status, std::string_view body);
  // An error in llama-server's form.
  Wait send_error(int status, std::string_view type, std::string_view message);

  // The first half of a reply with this body, and nothing after it.
  Wait send_half(std::string_view content_type, std::string_view body);

  // A stream of server-sent events; each `write` is one chunk and one send.
  Wait begin_stream();
  bool stream_begun() const { return stream_begun_; }
  Wait write(std::string_view bytes);
  Wait end_stream();

  Connection& connection() { return connection_; }

  // Whether the next request may come on the same connection.
  bool keeps_connection() const { return keep_alive_; }
  void drop_connection() { keep_alive_ = false; }

 private:
  std::string head(int status, std::string_view content_type, std::string_view framing);

  Connection& connection_;
  const bool http_1_0_;
  bool until_eof_ = false;  // The end of the connection is the end of the body.
  size_t padding_bytes_ = 0;
  bool keep_alive_;
  bool stream_begun_ = false;
};

}  // namespace fake_engine
