#include "fake_engine/replies.h"

#include <cmath>
#include <cstdio>
#include <ctime>
#include <unistd.h>

#include "fake_engine/engine.h"
#include "fake_engine/json_text.h"
#include "fake_engine/token_text.h"

namespace fake_engine {
namespace {

constexpr std::string_view kFingerprint = "b0-fake";
constexpr int kDefaultContext = 4096;
constexpr int kEmbeddingSize = 8;

std::string event(std::string_view data) {
  std::string text = "data: ";
  return text.append(data).append("\n\n");
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

// Builds `"name":value` members one after the other.
class MemberList {
 public:
  MemberList& raw(std::string_view name, std::string_view value) {
    if (!text_.empty()) text_ += ',';
    text_.append("\"").append(name).append("\":").append(value);
    return *this;
  }
  MemberList& string(std::string_view name, std::string_view value) {
    return raw(name, json::quote(value));
  }
  MemberList& integer(std::string_view name, int64_t value) {
    return raw(name, std::to_string(value));
  }
  MemberList& boolean(std::string_view name, bool value) {
    return raw(name, value ? "true" : "false");
  }
  std::string members() const { return text_; }
  std::string object() const { return '{' + text_ + '}'; }

 private:
  std::string text_;
};

std::string usage(const ReplyFacts& facts) {
  return MemberList()
      .integer("completion_tokens", facts.completion_tokens)
      .integer("prompt_tokens", facts.prompt_tokens)
      .integer("total_tokens", facts.completion_tokens + facts.prompt_tokens)
      .raw("prompt_tokens_details",
           MemberList().integer("cached_tokens", facts.cached_tokens).object())
      .object();
}

double per_second(int64_t tokens, double ms) {
  return ms > 0 ? static_cast<double>(tokens) * 1000 / ms : 0;
}

std::string timings(const ReplyFacts& facts) {
  return MemberList()
      .integer("cache_n", facts.cached_tokens)
      .integer("prompt_n", facts.prompt_tokens - facts.cached_tokens)
      .raw("prompt_ms", number(facts.prompt_ms))
      .raw("prompt_per_second", number(per_second(facts.prompt_tokens, facts.prompt_ms)))
      .integer("predicted_n", facts.completion_tokens)
      .raw("predicted_ms", number(facts.predicted_ms))
      .raw("predicted_per_second", number(per_second(facts.completion_tokens, facts.predicted_ms)))
      .object();
}

MemberList probability_of(const TopToken& token) {
  const std::string text = 't' + std::to_string(token.id);
  MemberList members;
  members.integer("id", token.id)
      .string("token", text)
      .raw("bytes", "[]")
      .raw("logprob", number(std::log(token.probability)));
  return members;
}

int64_t context_of_slot(const Engine& engine) {
  const int64_t context =
      engine.options().ctx_size > 0 ? engine.options().ctx_size : kDefaultContext;
  return context / static_cast<int64_t>(engine.slots().size());
}

}  // namespace

EventWriter::EventWriter(const ReplyFacts& facts) : chat_(facts.chat), native_(facts.native) {
  MemberList common;
  common.integer("created", facts.created_s);
  if (facts.chat) common.string("id", facts.id);
  common.string("model", facts.model).string("system_fingerprint", kFingerprint);
  common.string("object", facts.chat ? "chat.completion.chunk" : "text_completion");
  if (!facts.chat) common.string("id", facts.id);
  common_ = common.members();
}

std::string EventWriter::role() const {
  if (!chat_ || native_) return "";
  return R"(data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant",)"
         R"("content":null}}],)" +
         common_ + "}\n\n";
}

std::string EventWriter::progress(int64_t processed, const ReplyFacts& facts) const {
  const std::string progress = MemberList()
                                   .integer("total", facts.prompt_tokens)
                                   .integer("cache", facts.cached_tokens)
                                   .integer("processed", processed)
                                   .integer("time_ms", 0)
                                   .object();
  if (native_) {
    return event(R"({"index":0,"content":"","stop":false,"id_slot":-1,"prompt_progress":)" +
                 progress + '}');
  }
  const std::string choice =
      chat_ ? R"({"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}})"
            : R"({"text":"","index":0,"logprobs":null,"finish_reason":null})";
  return event(R"({"choices":[)" + choice + "]," + common_ + R"(,"prompt_progress":)" + progress +
               '}');
}

std::string EventWriter::token(std::string_view text, std::optional<int64_t> t_ns) const {
  if (native_) return event(R"({"index":0,"stop":false,"content":)" + json::quote(text) + '}');
  std::string out;
  out.reserve(common_.size() + text.size() + 160);
  if (chat_) {
    out += R"(data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":)";
    out.append(json::quote(text)).append("}}],");
  } else {
    out += R"(data: {"choices":[{"text":)";
    out.append(json::quote(text)).append(R"(,"index":0,"logprobs":null,"finish_reason":null}],)");
  }
  out += common_;
  if (t_ns) out.append(R"(,"t":)").append(std::to_string(*t_ns));
  out += "}\n\n";
  return out;
}

std::string EventWriter::finish(const ReplyFacts& facts, bool include_usage) const {
  if (native_) return event(native_reply(facts, "", {}));
  const std::string reason = json::quote(facts.finish_reason);
  const std::string extra = MemberList()
                                .string("fake_checksum", hex64(facts.checksum))
                                .integer("fake_tokens", facts.completion_tokens)
                                .members();
  const std::string timing = R"(,"timings":)" + timings(facts);
  if (!chat_) {
    return event(R"({"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":)" + reason +
                 "}]," + common_ + R"(,"usage":)" + usage(facts) + timing + ',' + extra + '}');
  }
  const std::string last =
      event(R"({"choices":[{"finish_reason":)" + reason + R"(,"index":0,"delta":{}}],)" + common_ +
            (include_usage ? "" : timing) + ',' + extra + '}');
  if (!include_usage) return last;
  return last + event(R"({"choices":[],)" + common_ + R"(,"usage":)" + usage(facts) + timing + '}');
}

std::string full_reply(const ReplyFacts& facts, std::string_view text) {
  MemberList reply;
  if (facts.chat) {
    const std::string message =
        MemberList().string("role", "assistant").string("content", text).object();
    reply.raw("choices", '[' +
                             MemberList()
                                 .string("finish_reason", facts.finish_reason)
                                 .integer("index", 0)
                                 .raw("message", message)
                                 .object() +
                             ']');
  } else {
    reply.raw("choices", '[' +
                             MemberList()
                                 .string("text", text)
                                 .integer("index", 0)
                                 .raw("logprobs", "null")
                                 .string("finish_reason", facts.finish_reason)
                                 .object() +
                             ']');
  }
  return reply.integer("created", facts.created_s)
      .string("model", facts.model)
      .string("system_fingerprint", kFingerprint)
      .string("object", facts.chat ? "chat.completion" : "text_completion")
      .raw("usage", usage(facts))
      .string("id", facts.id)
      .raw("timings", timings(facts))
      .string("fake_checksum", hex64(facts.checksum))
      .integer("fake_tokens", facts.completion_tokens)
      .object();
}

std::string native_reply(const ReplyFacts& facts, std::string_view text, const TopTokens& tokens) {
  MemberList reply;
  reply.integer("index", 0)
      .string("content", text)
      .raw("tokens", "[]")
      .boolean("stop", true)
      .integer("id_slot", facts.slot)
      .string("model", facts.model)
      .integer("tokens_predicted", facts.completion_tokens)
      .integer("tokens_evaluated", facts.prompt_tokens)
      .string("stop_type", facts.finish_reason == "length" ? "limit" : "eos");
  if (tokens.count > 0) {
    std::string list;
    for (int64_t at = 0; at < facts.completion_tokens; ++at) {
      std::string top;
      for (const TopToken& token : top_tokens_at(tokens, at)) {
        top.append(top.empty() ? "" : ",").append(probability_of(token).object());
      }
      list.append(at ? "," : "")
          .append(probability_of(top_tokens_at(tokens, at).front())
                      .raw("top_logprobs", '[' + top + ']')
                      .object());
    }
    reply.raw("completion_probabilities", '[' + list + ']');
  }
  return reply.raw("timings", timings(facts)).object();
}

std::string tokenize_body(std::string_view text, bool add_special) {
  std::string tokens;
  for (const int32_t token : tokens_of(text, add_special)) {
    tokens.append(tokens.empty() ? "" : ",").append(std::to_string(token));
  }
  return "{\"tokens\":[" + tokens + "]}";
}

std::string error_body(int status, std::string_view type, std::string_view message) {
  const std::string error =
      MemberList().integer("code", status).string("message", message).string("type", type).object();
  return MemberList().raw("error", error).object();
}

std::string error_event(int status, std::string_view type, std::string_view message) {
  return event(error_body(status, type, message));
}

std::string embeddings_body(std::string_view model, int64_t inputs, uint64_t seed) {
  std::string data;
  for (int64_t input = 0; input < inputs; ++input) {
    std::string vector;
    for (int64_t at = 0; at < kEmbeddingSize; ++at) {
      const std::string name = std::to_string(seed) + '-' + std::to_string(input * 1000 + at);
      const double value = static_cast<double>(fnv1a64(name) % 2000) / 1000 - 1;
      vector.append(at ? "," : "").append(number(value));
    }
    data.append(input ? "," : "")
        .append(MemberList()
                    .raw("embedding", '[' + vector + ']')
                    .integer("index", input)
                    .string("object", "embedding")
                    .object());
  }
  return MemberList()
      .string("model", model)
      .string("object", "list")
      .raw("usage",
           MemberList().integer("prompt_tokens", inputs).integer("total_tokens", inputs).object())
      .raw("data", '[' + data + ']')
      .object();
}

std::string models_body(const Engine& engine) {
  const std::string meta = MemberList()
                               .integer("n_ctx", context_of_slot(engine))
                               .integer("n_ctx_train", kDefaultContext)
                               .integer("n_embd", kEmbeddingSize)
                               .object();
  const std::string model = MemberList()
                                .string("id", engine.options().model_name())
                                .raw("aliases", "[]")
                                .raw("tags", "[]")
                                .string("object", "model")
                                .integer("created", std::time(nullptr))
                                .string("owned_by", "llamacpp")
                                .raw("meta", meta)
                                .object();
  return MemberList().string("object", "list").raw("data", '[' + model + ']').object();
}

std::string props_body(const Engine& engine) {
  const Options& options = engine.options();
  return MemberList()
      .raw("default_generation_settings",
           MemberList().raw("params", "{}").integer("n_ctx", context_of_slot(engine)).object())
      .integer("total_slots", static_cast<int64_t>(engine.slots().size()))
      .string("model_alias", options.model_name())
      .string("model_path", options.model_path)
      .raw("modalities", R"({"vision":false,"video":false,"audio":false})")
      .boolean("endpoint_slots", options.slots_endpoint)
      .boolean("endpoint_props", false)
      .boolean("endpoint_metrics", options.metrics)
      .string("chat_template", "")
      .string("build_info", kFingerprint)
      .boolean("is_sleeping", false)
      .object();
}

std::string slots_body(const Engine& engine) {
  std::string list;
  int64_t id = 0;
  const int64_t context = context_of_slot(engine);
  for (const SlotState& slot : engine.slots()) {
    MemberList members;
    members.integer("id", id)
        .integer("n_ctx", context)
        .boolean("speculative", false)
        .boolean("is_processing", slot.is_processing);
    if (slot.task >= 0) {
      members.integer("id_task", slot.task)
          .integer("n_prompt_tokens",
                   static_cast<int64_t>(engine.cache().tokens_in(static_cast<size_t>(id))))
          .raw("next_token", "[" + MemberList().integer("n_decoded", slot.decoded).object() + "]");
    }
    list.append(id++ ? "," : "").append(members.object());
  }
  return '[' + list + ']';
}

std::string metrics_body(Engine& engine) {
  int64_t processing = 0;
  for (const SlotState& slot : engine.slots()) processing += slot.is_processing ? 1 : 0;
  std::string text;
  const auto metric = [&](const std::string& name, const std::string& type, uint64_t value) {
    text += "# TYPE llamacpp:" + name + ' ' + type + "\nllamacpp:" + name + ' ' +
            std::to_string(value) + '\n';
  };
  metric("tokens_predicted_total", "counter", engine.counters().tokens_sent);
  metric("requests_processing", "gauge", static_cast<uint64_t>(processing));
  metric("requests_deferred", "gauge", engine.waiting_for_slot());
  return text;
}

std::string vllm_metrics_body(Engine& engine) {
  std::string text;
  const std::string labels = "{engine=\"0\",model_name=\"" + engine.options().model_name() + "\"} ";
  const auto metric = [&](const std::string& name, const std::string& type, uint64_t value) {
    text += "# TYPE vllm:" + name + ' ' + type + "\nvllm:" + name + labels + std::to_string(value) +
            ".0\n";
  };
  metric("generation_tokens_total", "counter", engine.counters().tokens_sent);
  metric("num_requests_running", "gauge", engine.counters().active - engine.waiting_for_slot());
  metric("num_requests_waiting", "gauge", engine.waiting_for_slot());
  return text;
}

std::string stats_body(Engine& engine) {
  Counters& counters = engine.counters();
  std::string children;
  for (const pid_t child : engine.children()) {
    children.append(children.empty() ? "" : ",").append(std::to_string(child));
  }
  MemberList members;
  const auto count = [&](std::string_view name, uint64_t value) {
    members.raw(name, std::to_string(value));
  };
  count("requests", counters.requests);
  count("active", counters.active);
  count("max_active", counters.max_active);
  count("waiting_for_slot", engine.waiting_for_slot());
  count("completed", counters.completed);
  count("cancelled", counters.cancelled);
  count("failed", counters.failed);
  count("bad_requests", counters.bad_requests);
  count("tokens_sent", counters.tokens_sent);
  count("bytes_sent", counters.bytes_sent);
  count("prefilled_tokens", counters.prefilled_tokens);
  count("cached_tokens", counters.cached_tokens);
  count("saves", counters.saves);
  count("restores", counters.restores);
  count("foreign_restores", counters.foreign_restores);
  count("connections_open", counters.connections_open);
  count("connections_total", counters.connections_total);
  count("last_body_bytes", counters.last_body_bytes);
  members.string("last_body_fnv", hex64(counters.last_body_fnv));
  members.integer("pid", getpid()).raw("children", '[' + children + ']');
  return members.object();
}

}  // namespace fake_engine
