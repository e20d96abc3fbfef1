#include "fake_engine/reply_writer.h"

#include "fake_engine/replies.h"

namespace fake_engine {

ReplyWriter::ReplyWriter(Connection& connection, const HttpRequest& request, bool keep_alive)
    : connection_(connection), http_1_0_(request.http_1_0), keep_alive_(keep_alive) {}

void ReplyWriter::use(const Behaviour& behaviour) {
  until_eof_ = behaviour.no_content_length;
  padding_bytes_ = static_cast<size_t>(behaviour.big_header_bytes);
}

Wait ReplyWriter::send(int status, std::string_view content_type, std::string_view body) {
  if (status >= 400) keep_alive_ = false;  // llama-server closes after an error.
  std::string framing;
  if (until_eof_) {
    keep_alive_ = false;
  } else {
    framing = "Content-Length: " + std::to_string(body.size()) + "\r\n";
  }
  return connection_.send_all(head(status, content_type, framing).append(body));
}

Wait ReplyWriter::send_json(int status, std::string_view body) {
  return send(status, "application/json; charset=utf-8", body);
}

Wait ReplyWriter::send_error(int status, std::string_view type, std::string_view message) {
  return send_json(status, error_body(status, type, message));
}

Wait ReplyWriter::send_half(std::string_view content_type, std::string_view body) {
  keep_alive_ = false;
  const std::string framing = "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return connection_.send_all(
      head(200, content_type, framing).append(body.substr(0, body.size() / 2)));
}

Wait ReplyWriter::begin_stream() {
  stream_begun_ = true;
  std::string framing = "X-Accel-Buffering: no\r\n";
  if (until_eof_ || http_1_0_) {
    keep_alive_ = false;
  } else {
    framing += "Transfer-Encoding: chunked\r\n";
  }
  return connection_.send_all(head(200, "text/event-stream", framing));
}

Wait ReplyWriter::write(std::string_view bytes) {
  return connection_.send_all(until_eof_ || http_1_0_ ? std::string(bytes) : chunk(bytes));
}

Wait ReplyWriter::end_stream() {
  return until_eof_ || http_1_0_ ? Wait::kReady : connection_.send_all(kLastChunk);
}

std::string ReplyWriter::head(int status, std::string_view content_type, std::string_view framing) {
  std::string text = status_line(status) + "Server: llama.cpp\r\n";
  text.append("Content-Type: ").append(content_type).append("\r\n").append(framing);
  if (padding_bytes_ > 0) {
    text.append("X-Fake-Padding: ").append(padding_bytes_, 'x').append("\r\n");
  }
  text.append(keep_alive_ ? "Keep-Alive: timeout=5, max=100\r\n" : "Connection: close\r\n");
  return text += "\r\n";
}

}  // namespace fake_engine
