#include "gateway/engine_request.h"

#include <string_view>

namespace yoke::gateway {
namespace {

// Members at the end of an object go before earlier ones of the same name: in llama-server
// (nlohmann-json), in Python's json and in RFC 8259's "many implementations".
void append_members(std::string& object, std::string_view members) {
  const std::size_t end = object.rfind('}');
  object.resize(end);
  object.append(",").append(members).append("}");
}

}  // namespace

EngineRequest make_engine_request(RouteKind kind, engines::EngineKind engine,
                                  const RequestFields& fields, std::string body) {
  EngineRequest request{std::move(body), ReplyForm::kAsIs, kind, engine};
  if (kind != RouteKind::kChat && kind != RouteKind::kCompletion) return request;
  if (engine == engines::EngineKind::kVllm) {
    if (fields.stream && !fields.several_choices) request.form = ReplyForm::kStream;
    return request;
  }
  // llama-server: "logprobs is not supported with tools + stream".
  if (fields.tools && fields.logprobs) return request;
  if (!fields.stream) {
    append_members(request.body, R"("stream":true,"stream_options":{"include_usage":true},)"
                                 R"("return_progress":true)");
    request.form = ReplyForm::kWhole;
  } else if (!fields.wants_progress && !fields.several_choices) {
    // With several answers the prompt of one may be read while tokens of another come.
    append_members(request.body, R"("return_progress":true)");
    request.form = ReplyForm::kStream;
  }
  return request;
}

}  // namespace yoke::gateway
