#include <algorithm>
#include <optional>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "models/http_source.h"
#include "models/pull.h"
#include "models/pull_plan.h"

namespace yoke::models {
namespace {

constexpr std::size_t kMostAtOnce = 8;

Result<PullPlan> plan_of(HttpClient& client, const ModelReference& reference,
                         const PullOptions& options) {
  const auto* const hub = std::get_if<HubReference>(&reference);
  if (hub != nullptr) return plan_pull(client, *hub, options);
  return plan_unseen(std::get<UrlReference>(reference), options);
}

// The headers of a split model's files, several at a time: each costs some round trips.
class Headers {
 public:
  Headers(const std::vector<PlannedFile>& files, const std::atomic<bool>* cancel)
      : files_(files), cancel_(cancel), headers_(files.size()) {}

  // `client` is for this thread, the others have their own.
  void read(HttpClient& client) {
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < std::min(files_.size(), kMostAtOnce); ++i) {
      others.emplace_back([this] {
        HttpClient own;
        read_next(own);
      });
    }
    read_next(client);
  }

  Result<gguf::Model> join() {
    // After a failure others may not have been begun.
    for (std::optional<Result<gguf::Header>>& header : headers_) {
      if (header && !*header) return fail(std::move(header->error()));
    }
    gguf::ModelAssembly assembly;
    for (std::optional<Result<gguf::Header>>& header : headers_) {
      YOKE_CHECK(assembly.add(std::move(**header)));
    }
    return assembly.finish();
  }

 private:
  void read_next(HttpClient& client) {
    for (std::size_t i = next_++; i < files_.size() && !failed_; i = next_++) {
      const Download& file = files_[i].download;
      HttpSource source(client, file.subject, file.bearer, cancel_);
      headers_[i] = gguf::read_header(source);
      if (!*headers_[i]) failed_ = true;
    }
  }

  const std::vector<PlannedFile>& files_;
  const std::atomic<bool>* cancel_;
  std::vector<std::optional<Result<gguf::Header>>> headers_;  // Each is of one thread.
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
};

}  // namespace

Result<gguf::Model> remote_model(const ModelReference& reference, const HubAccess& hub,
                                 const std::atomic<bool>* cancel) {
  if (const auto* const file = std::get_if<FileReference>(&reference)) {
    return gguf::open_model(file->path);
  }
  PullOptions options;
  options.model_dir = "/";  // Nothing is written.
  options.hub = hub;
  options.projector = false;
  options.cancel = cancel;
  HttpClient client;
  YOKE_TRY(const PullPlan plan, plan_of(client, reference, options));
  if (plan.format != "gguf") {
    return fail(gguf::kGgufUnsupported,
                fmt::format("{} is a HuggingFace model, and a GGUF model was expected.",
                            to_text(reference)),
                "Name a repository with GGUF files; most are called so.");
  }
  Headers headers(plan.files, cancel);
  headers.read(client);
  return headers.join();
}

}  // namespace yoke::models
