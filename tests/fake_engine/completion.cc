#include "fake_engine/completion.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <unistd.h>
#include <utility>

#include "fake_engine/clock.h"
#include "fake_engine/engine.h"
#include "fake_engine/log.h"
#include "fake_engine/process.h"
#include "fake_engine/token_text.h"

namespace fake_engine {
namespace {

constexpr std::string_view kGarbage = "\x16\x03\x01\x02 this is no HTTP \xff\xfe\r\n\r\n";
constexpr std::string_view kGarbageChunk = "zz\r\nno chunk has this size\r\n";

// Of longer replies the rest is not in the cache.
constexpr size_t kMaxSaid = 1u << 20;

ReplyFacts make_facts(const CompletionRequest& request) {
  ReplyFacts facts;
  facts.chat = request.kind == CompletionKind::kChat;
  facts.native = request.kind == CompletionKind::kNative;
  const uint64_t id = fnv1a64(std::to_string(monotonic_ns()), request.seed);
  facts.id = "chatcmpl-" + hex64(id);
  facts.model = request.model;
  facts.created_s = std::time(nullptr);
  facts.prompt_tokens = request.prompt_tokens;
  facts.finish_reason = request.cut_by_limit ? "length" : "stop";
  facts.checksum = request.checksum;
  return facts;
}

double ms_since(int64_t start_ns) {
  return static_cast<double>(monotonic_ns() - start_ns) / static_cast<double>(kNsPerMs);
}

void count_active(Counters& counters) {
  const uint64_t active = ++counters.active;
  uint64_t max = counters.max_active;
  while (max < active && !counters.max_active.compare_exchange_weak(max, active)) {
  }
}

}  // namespace

Completion::Completion(Engine& engine, ReplyWriter& writer, CompletionRequest request)
    : engine_(engine),
      writer_(writer),
      request_(std::move(request)),
      behaviour_(request_.behaviour),
      facts_(make_facts(request_)),
      events_(facts_) {
  writer_.use(behaviour_);
}

void Completion::run() {
  Counters& counters = engine_.counters();
  ++counters.requests;
  count_active(counters);
  const End end = serve();
  --counters.active;
  if (end != End::kCompleted) writer_.drop_connection();
  switch (end) {
    case End::kCompleted:
      ++counters.completed;
      break;
    case End::kFailed:
      ++counters.failed;
      break;
    case End::kStopping:
      break;
    case End::kClientGone:
      ++counters.cancelled;
      log("release", "cancelled: client disconnected");
      break;
  }
  const int64_t exit_after = engine_.behaviour().exit_after_requests;
  if (exit_after != kNever && end == End::kCompleted &&
      counters.completed >= static_cast<uint64_t>(exit_after)) {
    log_raw(behaviour_.crash_log);
    _exit(behaviour_.crash_exit == kNever ? 0 : static_cast<int>(behaviour_.crash_exit));
  }
}

Completion::End Completion::serve() {
  if (const auto broken = engine_.breakdown()) return send_error(broken->status, broken->message);
  if (behaviour_.garbage && may_strike(behaviour_)) {
    writer_.connection().send_all(kGarbage);
    return End::kFailed;
  }
  if (behaviour_.status != 0 && may_strike(behaviour_)) return send_scripted_error();

  task_ = engine_.next_task();
  size_t slot = 0;
  const Wait outcome = engine_.acquire_slot(writer_.connection(), task_, request_.prompt, slot);
  if (outcome != Wait::kReady) return end_of(outcome);
  slot_ = static_cast<int64_t>(slot);
  facts_.slot = slot_;
  begin_prompt(slot);
  const End end = serve_in_slot(slot);
  // A reply is in the cache whole or as far as it came.
  engine_.cache().extend(slot, tokens_of(said_, false));
  engine_.release_slot(slot);
  return end;
}

void Completion::begin_prompt(size_t slot) {
  facts_.cached_tokens =
      engine_.cache().begin(slot, engine_.idle_slots(), request_.prompt, request_.cache_prompt);
  const auto all = static_cast<int64_t>(request_.prompt.size());
  engine_.counters().cached_tokens += static_cast<uint64_t>(facts_.cached_tokens);
  engine_.counters().prefilled_tokens += static_cast<uint64_t>(all - facts_.cached_tokens);
}

Completion::End Completion::serve_in_slot(size_t slot) {
  log("launch_slot_", "processing task");
  for (int64_t line = 0; line < behaviour_.log_flood_lines; ++line) {
    log("update_slots", "flood line " + std::to_string(line));
  }
  if (request_.stream && !behaviour_.late_headers) {
    if (const Wait sent = begin_stream_once(); sent != Wait::kReady) return end_of(sent);
    if (const Wait sent = report_progress(0); sent != Wait::kReady) return end_of(sent);
  }
  const int64_t start_ns = monotonic_ns();
  const Wait prefilled = pause_until(start_ns + behaviour_.prefill_ms * kNsPerMs);
  if (prefilled != Wait::kElapsed) return end_of(prefilled);
  facts_.prompt_ms = ms_since(start_ns);
  if (const Wait sent = report_progress(facts_.prompt_tokens); sent != Wait::kReady) {
    return end_of(sent);
  }

  const int64_t generation_start_ns = monotonic_ns();
  const End end = generate(slot);
  if (end != End::kCompleted) return end;
  facts_.predicted_ms = ms_since(generation_start_ns);
  return finish();
}

Completion::End Completion::generate(size_t slot) {
  const int64_t start_ns = monotonic_ns();
  const int64_t count = request_.end_token - request_.first_token;
  for (int64_t sent = 0; sent < count; ++sent) {
    if (behaviour_.tokens_per_s > 0) {
      const double due_s = static_cast<double>(sent) / behaviour_.tokens_per_s;
      const int64_t due_ns = start_ns + std::llround(due_s * static_cast<double>(kNsPerS));
      const Wait slept = pause_until(due_ns);
      if (slept != Wait::kElapsed) return end_of(slept);
    }
    if (const auto end = strike_after(sent)) return *end;
    if (sent == 0 && !request_.repeat.empty()) {
      if (const Wait said = say(request_.repeat); said != Wait::kReady) return end_of(said);
    }
    const std::string token = token_text(request_.seed, request_.first_token + sent,
                                         static_cast<size_t>(behaviour_.token_bytes));
    const std::string_view text = std::string_view(token).substr(sent ? 0 : request_.skip_bytes);
    facts_.checksum = fnv1a64(text, facts_.checksum);
    if (const Wait said = say(text); said != Wait::kReady) return end_of(said);
    if (said_.size() < kMaxSaid) said_ += text;
    facts_.completion_tokens = sent + 1;
    ++engine_.counters().tokens_sent;
    engine_.set_decoded(slot, sent + 1);
    if (!request_.stream) {  // A stream notices by sending.
      const Wait looked = writer_.connection().wait_until(0);
      if (looked != Wait::kElapsed) return end_of(looked);
    }
  }
  return strike_after(count).value_or(End::kCompleted);
}

Completion::End Completion::finish() {
  if (!request_.stream) {
    const Wait sent = writer_.send_json(200, full_body());
    return sent == Wait::kReady ? End::kCompleted : end_of(sent);
  }
  std::string last = std::exchange(role_said_, true) ? "" : events_.role();
  last += events_.finish(facts_, request_.include_usage);
  if (const Wait sent = begin_stream_once(); sent != Wait::kReady) return end_of(sent);
  if (const Wait sent = writer_.write(last); sent != Wait::kReady) return end_of(sent);
  if (request_.kind != CompletionKind::kNative) {
    if (const Wait sent = writer_.write(kDoneEvent); sent != Wait::kReady) return end_of(sent);
  }
  const Wait sent = writer_.end_stream();
  if (sent != Wait::kReady) return end_of(sent);
  log("release", "stop processing: n_tokens = " + std::to_string(facts_.completion_tokens));
  return End::kCompleted;
}

std::optional<Completion::End> Completion::strike_after(int64_t sent) {
  const int64_t points[] = {behaviour_.crash_after_tokens,      behaviour_.hang_after_tokens,
                            behaviour_.reset_after_tokens,      behaviour_.garbage_chunk,
                            behaviour_.half_close_after_tokens, behaviour_.error_after_tokens};
  const auto hit = std::find(std::begin(points), std::end(points), sent);
  if (hit == std::end(points) || !may_strike(behaviour_)) return std::nullopt;

  if (sent == behaviour_.crash_after_tokens) crash(behaviour_);
  log_raw(behaviour_.crash_log);
  if (sent == behaviour_.hang_after_tokens) return end_of(pause_until(kNoDeadline));
  if (sent == behaviour_.reset_after_tokens) {
    writer_.connection().reset();
  } else if (sent == behaviour_.garbage_chunk) {
    begin_stream_once();
    writer_.connection().send_all(kGarbageChunk);
  } else if (sent == behaviour_.half_close_after_tokens) {
    return half_close();
  } else {
    return send_scripted_error();
  }
  return End::kFailed;
}

Completion::End Completion::send_scripted_error() {
  const int status = behaviour_.status != 0 ? static_cast<int>(behaviour_.status) : 500;
  const std::string message = behaviour_.message.empty() ? "Compute error." : behaviour_.message;
  if (behaviour_.stays_broken) engine_.break_down(status, message);
  return send_error(status, message);
}

Completion::End Completion::send_error(int status, const std::string& message) {
  const std::string_view type = status == 503   ? "unavailable_error"
                                : status == 501 ? "not_supported_error"
                                : status >= 500 ? "server_error"
                                : status == 401 ? "authentication_error"
                                : status == 404 ? "not_found_error"
                                                : "invalid_request_error";
  if (writer_.stream_begun()) {
    writer_.write(error_event(status, type, message));
    writer_.end_stream();
  } else {
    writer_.send_error(status, type, message);
  }
  return End::kFailed;
}

Completion::End Completion::half_close() {
  if (!request_.stream) {
    writer_.send_half("application/json; charset=utf-8", full_body());
  } else {
    begin_stream_once();
  }
  writer_.connection().half_close();
  return End::kFailed;
}

Wait Completion::pause_until(int64_t deadline_ns) {
  Connection& connection = writer_.connection();
  if (!writer_.stream_begun() || behaviour_.ping_ms == 0) return connection.wait_until(deadline_ns);
  for (;;) {
    const int64_t ping_ns = monotonic_ns() + behaviour_.ping_ms * kNsPerMs;
    const Wait outcome = connection.wait_until(std::min(ping_ns, deadline_ns));
    if (outcome != Wait::kElapsed || ping_ns >= deadline_ns) return outcome;
    if (const Wait sent = writer_.write(kPingEvent); sent != Wait::kReady) return sent;
  }
}

Wait Completion::say(std::string_view text) {
  if (!request_.stream) {
    text_ += text;
    return Wait::kReady;
  }
  if (const Wait sent = begin_stream_once(); sent != Wait::kReady) return sent;
  // The role travels with the first token in one chunk, as llama-server sends it.
  std::string events = std::exchange(role_said_, true) ? "" : events_.role();
  std::optional<int64_t> t_ns;
  if (behaviour_.timestamps) t_ns = monotonic_ns();
  return writer_.write(events.empty() ? events_.token(text, t_ns)
                                      : events + events_.token(text, t_ns));
}

Wait Completion::begin_stream_once() {
  return request_.stream && !writer_.stream_begun() ? writer_.begin_stream() : Wait::kReady;
}

Wait Completion::report_progress(int64_t processed) {
  if (!request_.return_progress || !writer_.stream_begun()) return Wait::kReady;
  return writer_.write(events_.progress(processed, facts_));
}

std::string Completion::full_body() const {
  if (request_.kind == CompletionKind::kEmbedding) {
    return embeddings_body(request_.model, request_.inputs, request_.seed);
  }
  if (request_.kind == CompletionKind::kNative) {
    return native_reply(facts_, text_, request_.top_tokens);
  }
  return full_reply(facts_, text_);
}

void Completion::log(std::string_view function, std::string_view what) const {
  char where[64];
  std::snprintf(where, sizeof where, "slot %12.*s: id %2d | task %d | ",
                static_cast<int>(function.size()), function.data(), static_cast<int>(slot_),
                static_cast<int>(task_));
  log_line('I', std::string(where).append(what));
}

Completion::End Completion::end_of(Wait outcome) {
  return outcome == Wait::kStopping ? End::kStopping : End::kClientGone;
}

}  // namespace fake_engine
