#include "models/pull_plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "gguf/model.h"
#include "models/choice.h"
#include "models/entry.h"
#include "models/hub.h"
#include "models/safe_path.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

struct UrlParts {
  std::string directory;  // Up to the last '/', as it stands in the address.
  std::string file;       // Decoded.
  std::string tail;       // Query and fragment.
  std::string host;
  std::string path;  // Decoded, without the first '/'.
};

Result<UrlParts> parts_of(const std::string& url) {
  UrlParts parts;
  const std::size_t tail = std::min(url.find_first_of("?#"), url.size());
  parts.tail = url.substr(tail);
  const std::size_t slash = url.rfind('/', tail == 0 ? 0 : tail - 1);
  parts.directory = url.substr(0, slash + 1);
  const auto file = url_decode(std::string_view(url).substr(slash + 1, tail - slash - 1));
  const std::string shown = to_text(UrlReference{url});
  const std::size_t host = shown.find("://") + 3;
  const std::size_t path = std::min(shown.find('/', host), shown.size());
  parts.host = shown.substr(host, path - host);
  const auto decoded = url_decode(std::string_view(shown).substr(std::min(path + 1, shown.size())));
  if (!file || !decoded) {
    return fail(kInvalidArgument, fmt::format("{} is no right address.", shown), "Correct it.");
  }
  parts.file = *file;
  parts.path = *decoded;
  std::ranges::replace(parts.host, ':', '_');
  return parts;
}

// The addresses of all parts if it is the first of a split model; of any other part that is what
// is meant, too.
std::vector<std::string> sibling_names(const std::string& file) {
  const auto split = gguf::parse_split_name(file);
  constexpr std::uint32_t kMostParts = 1000;
  if (!split || split->count > kMostParts) return {file};
  std::vector<std::string> names;
  for (std::uint32_t number = 1; number <= split->count; ++number) {
    names.push_back(split->of(number));
  }
  return names;
}

}  // namespace

Result<PullPlan> plan_pull(HttpClient& client, const HubReference& reference,
                           const PullOptions& options) {
  YOKE_TRY(const Repository repository,
           list_repository(client, options.hub, reference, options.cancel, options.on_note));
  YOKE_TRY(const Choice choice,
           choose(repository.files, reference.choice, options.projector, reference.repository));
  YOKE_TRY(const fs::path below, safe_path(options.model_dir / "hf", reference.repository));
  PullPlan plan{choice.format,
                choice.name,
                reference.repository.substr(0, reference.repository.find('/')),
                repository.commit,
                below,
                {}};
  for (const ChosenFile& chosen : choice.files) {
    YOKE_TRY(const fs::path path, safe_path(below, chosen.file.path));
    const Subject subject = subject_of(options.hub, reference, repository.commit, chosen.file.path);
    plan.files.push_back({{subject, bearer_for(options.hub, subject.url), path, chosen.file.bytes,
                           chosen.file.checksum},
                          chosen.role});
  }
  if (plan.format == "gguf") plan.path = plan.files.front().download.path;
  return plan;
}

Result<PullPlan> plan_unseen(const UrlReference& reference, const PullOptions& options) {
  YOKE_TRY(const UrlParts parts, parts_of(reference.url));
  YOKE_TRY(const fs::path place, safe_path(options.model_dir, parts.host + "/" + parts.path));
  PullPlan plan{"gguf", model_stem(parts.file), parts.host, {}, {}, {}};
  for (const std::string& name : sibling_names(parts.file)) {
    Download download;
    download.subject.url =
        name == parts.file ? reference.url : parts.directory + url_encode(name, false) + parts.tail;
    download.subject.name = to_text(UrlReference{download.subject.url});
    download.bearer = bearer_for(options.hub, download.subject.url);
    download.path = place.parent_path() / name;
    plan.files.push_back({std::move(download)});
  }
  plan.path = plan.files.front().download.path;
  return plan;
}

Result<PullPlan> plan_pull(HttpClient& client, const UrlReference& reference,
                           const PullOptions& options) {
  YOKE_TRY(PullPlan plan, plan_unseen(reference, options));
  for (PlannedFile& file : plan.files) {
    DownloadOptions look;
    look.retry.without_progress = std::chrono::seconds(10);
    look.cancel = options.cancel;
    look.on_note = options.on_note;
    Download& download = file.download;
    YOKE_TRY(const RemoteFile remote, look_at(client, download, look));
    download.bytes = remote.bytes;
    if (!remote.sha256.empty()) download.checksum = {Checksum::Kind::kSha256, remote.sha256};
    file.modified = remote.modified;
  }
  return plan;
}

}  // namespace yoke::models
