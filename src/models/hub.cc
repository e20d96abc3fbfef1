#include "models/hub.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/paths.h"
#include "models/fetch.h"

namespace yoke::models {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostPageBytes = std::uint64_t{32} << 20;
constexpr std::size_t kMostPages = 200;
constexpr std::size_t kMostFiles = 100'000;
constexpr std::size_t kMostTokenBytes = 4096;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string trimmed(std::string text) {
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && is_space(text.back())) text.pop_back();
  text.erase(text.begin(), std::ranges::find_if_not(text, is_space));
  return text;
}

std::string read_token(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text(kMostTokenBytes, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return trimmed(std::move(text));
}

fs::path token_file() {
  if (const std::string path = variable("HF_TOKEN_PATH"); !path.empty()) return expand_home(path);
  if (const std::string home = variable("HF_HOME"); !home.empty()) {
    return expand_home(home) / "token";
  }
  const std::string cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? expand_home("~/.cache") : fs::path(cache)) / "huggingface" / "token";
}

// What can't stand in a header's field is no token.
bool is_token(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string quoted_path(std::string_view path) { return url_encode(path, true); }

Subject about_repository(const HubAccess& hub, const HubReference& reference, std::string url) {
  return {to_text(HubReference{reference.repository, reference.revision, {}}), std::move(url),
          to_text(UrlReference{fmt::format("{}/{}", hub.endpoint, reference.repository)}),
          !hub.token.empty()};
}

tl::unexpected<Error> bad_answer(const HubReference& reference) {
  return fail(kDownloadFailed,
              fmt::format("What answers for hf:{} is no hub.", reference.repository),
              "Look whether HF_ENDPOINT is right, and whether a proxy stands in between.");
}

Result<Fetched> ask(HttpClient& client, const HubAccess& hub, const HubReference& reference,
                    const std::string& url, const std::atomic<bool>* cancel,
                    const std::function<void(const std::string&)>& on_note) {
  FetchOptions options;
  options.subject = about_repository(hub, reference, url);
  options.bearer = bearer_for(hub, url);
  options.most_bytes = kMostPageBytes;
  options.cancel = cancel;
  options.on_note = on_note;
  return fetch(client, options);
}

bool is_hexadecimal(std::string_view text, std::size_t digits) {
  return text.size() == digits && std::ranges::all_of(text, [](char c) {
           return std::isdigit(static_cast<unsigned char>(c)) != 0 || (c >= 'a' && c <= 'f');
         });
}

// Of a large file the hub knows the SHA-256, of one in git itself what git calls it.
Checksum checksum_in(const JsonFields& item) {
  constexpr std::size_t kSha256 = 64;
  constexpr std::size_t kSha1 = 40;
  if (item.has("lfs")) {
    const Result<JsonFields> lfs = item.object("lfs");
    const std::string oid = lfs ? lfs->string_or("oid", "") : "";
    if (is_hexadecimal(oid, kSha256)) return {Checksum::Kind::kSha256, oid};
    return {};
  }
  const std::string oid = item.string_or("oid", "");
  return is_hexadecimal(oid, kSha1) ? Checksum{Checksum::Kind::kGitBlob, oid} : Checksum{};
}

Result<void> read_page(const std::string& text, std::vector<HubFile>& files) {
  YOKE_TRY(const boost::json::value page, parse_json(text));
  const boost::json::array* const list = page.if_array();
  if (list == nullptr || files.size() + list->size() > kMostFiles) {
    return fail(kInvalidJson, "The hub's list of files is none.");
  }
  for (const boost::json::value& value : *list) {
    YOKE_TRY(const JsonFields item, JsonFields::of(value));
    if (item.string_or("type", "") != "file") continue;
    HubFile file;
    YOKE_TRY(file.path, item.string("path"));
    YOKE_TRY(const std::int64_t size, item.integer("size"));
    if (size < 0) return fail(kInvalidJson, "The hub names a file of less than no bytes.");
    file.bytes = static_cast<std::uint64_t>(size);
    file.checksum = checksum_in(item);
    files.push_back(std::move(file));
  }
  return {};
}

}  // namespace

HubAccess hub_access() {
  HubAccess access;
  if (std::string endpoint = trimmed(variable("HF_ENDPOINT")); !endpoint.empty()) {
    while (endpoint.ends_with('/')) endpoint.pop_back();
    access.endpoint = std::move(endpoint);
  }
  access.token = trimmed(variable("HF_TOKEN"));
  if (access.token.empty()) access.token = trimmed(variable("HUGGING_FACE_HUB_TOKEN"));
  if (access.token.empty()) access.token = read_token(token_file());
  if (!is_token(access.token)) access.token.clear();
  return access;
}

std::string bearer_for(const HubAccess& hub, const std::string& url) {
  return same_origin(hub.endpoint, url) ? hub.token : std::string();
}

Subject subject_of(const HubAccess& hub, const HubReference& reference, const std::string& commit,
                   const std::string& path) {
  Subject subject = about_repository(hub, reference,
                                     fmt::format("{}/{}/resolve/{}/{}", hub.endpoint,
                                                 reference.repository, commit, quoted_path(path)));
  subject.name = fmt::format("hf:{}/{}", reference.repository, path);
  return subject;
}

Result<Repository> list_repository(HttpClient& client, const HubAccess& hub,
                                   const HubReference& reference, const std::atomic<bool>* cancel,
                                   const std::function<void(const std::string&)>& on_note) {
  const std::string base = fmt::format("{}/api/models/{}", hub.endpoint, reference.repository);
  YOKE_TRY(const Fetched info,
           ask(client, hub, reference,
               fmt::format("{}/revision/{}", base, url_encode(reference.revision, false)), cancel,
               on_note));
  Repository repository;
  const auto value = parse_json(info.body);
  const auto fields = value ? JsonFields::of(*value) : tl::unexpected<Error>(value.error());
  if (fields) repository.commit = fields->string_or("sha", "");
  if (!is_hexadecimal(repository.commit, 40)) return bad_answer(reference);

  std::string url = fmt::format("{}/tree/{}?recursive=true", base, repository.commit);
  for (std::size_t page = 0; !url.empty(); ++page) {
    // Another host would get what is the hub's business, and could go on for ever.
    if (page == kMostPages || !same_origin(url, hub.endpoint)) return bad_answer(reference);
    YOKE_TRY(const Fetched tree, ask(client, hub, reference, url, cancel, on_note));
    if (!read_page(tree.body, repository.files)) return bad_answer(reference);
    url = tree.head.next_page;
  }
  return repository;
}

}  // namespace yoke::models
