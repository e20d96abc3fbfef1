#include "models/reference.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

namespace yoke::models {
namespace {

constexpr std::string_view kHub = "hf:";
constexpr std::string_view kFile = "file:";
constexpr std::string_view kForms =
    "It is hf:ORG/REPOSITORY, hf:ORG/REPOSITORY:Q4_K_M, hf:ORG/REPOSITORY@REVISION:FILE, "
    "https://HOST/FILE.gguf or file:PATH.";
constexpr std::size_t kLongest = 4096;

tl::unexpected<Error> invalid(std::string_view text, std::string_view why) {
  return fail(kInvalidArgument, fmt::format("'{}' names no model: {}.", text, why),
              std::string(kForms));
}

bool has_control_characters(std::string_view text) {
  return std::ranges::any_of(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

// One half of "org/repository", as the hub takes them.
bool is_hub_name(std::string_view name) {
  if (name.empty() || name.size() > 96 || name.front() == '.' || name.front() == '-') return false;
  return std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
  });
}

bool is_repository(std::string_view text) {
  const std::size_t slash = text.find('/');
  return slash != std::string_view::npos && is_hub_name(text.substr(0, slash)) &&
         is_hub_name(text.substr(slash + 1));
}

// Git takes no such names for branches and tags.
bool is_revision(std::string_view text) {
  return !text.empty() && text.find_first_of(" :?*[\\^~#%") == std::string_view::npos &&
         text.find("..") == std::string_view::npos && text.front() != '/' && text.back() != '/';
}

Result<ModelReference> parse_hub(std::string_view text, std::string_view whole) {
  if (text.starts_with("//")) text.remove_prefix(2);
  HubReference reference;
  const std::size_t end = std::min(text.find_first_of(":@"), text.size());
  reference.repository = text.substr(0, end);
  if (!is_repository(reference.repository)) {
    return invalid(whole, "a repository of the hub has the form ORG/REPOSITORY");
  }
  std::string_view rest = text.substr(end);
  if (rest.starts_with('@')) {
    const std::size_t colon = std::min(rest.find(':'), rest.size());
    reference.revision = rest.substr(1, colon - 1);
    rest.remove_prefix(colon);
  } else if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    reference.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
  }
  if (!is_revision(reference.revision)) {
    return invalid(whole, "behind '@' stands a branch, a tag or a commit");
  }
  if (rest == ":") return invalid(whole, "behind ':' stands a quantization or a file");
  if (!rest.empty()) reference.choice = rest.substr(1);
  return reference;
}

struct Url {
  std::string_view scheme;
  std::string_view host;  // With the port.
  std::string_view path;  // Without query and fragment.
};

Url take_apart(std::string_view text) {
  Url url;
  const std::size_t scheme = text.find("://");
  url.scheme = text.substr(0, scheme);
  text.remove_prefix(scheme + 3);
  const std::size_t host = std::min(text.find_first_of("/?#"), text.size());
  url.host = text.substr(0, host);
  if (const std::size_t at = url.host.rfind('@'); at != std::string_view::npos) {
    url.host.remove_prefix(at + 1);
  }
  text.remove_prefix(host);
  url.path = text.substr(0, std::min(text.find_first_of("?#"), text.size()));
  return url;
}

bool is_url(std::string_view text) {
  return text.starts_with("https://") || text.starts_with("http://");
}

std::string shown_url(std::string_view text) {
  const Url url = take_apart(text);
  return fmt::format("{}://{}{}", url.scheme, url.host, url.path);
}

Result<ModelReference> parse_url(std::string_view text) {
  const Url url = take_apart(text);
  if (url.host.empty()) return invalid(shown_url(text), "the address has no host");
  if (url.path.empty() || url.path.back() == '/') {
    return invalid(shown_url(text), "the address names no file");
  }
  return UrlReference{std::string(text)};
}

Result<ModelReference> parse_file(std::string_view path, std::string_view whole) {
  if (path.starts_with("//")) path.remove_prefix(2);
  if (path.empty()) return invalid(whole, "the path is empty");
  return FileReference{std::filesystem::path(path)};
}

struct Text {
  std::string operator()(const HubReference& hub) const {
    const std::string revision = hub.revision == "main" ? "" : "@" + hub.revision;
    const std::string choice = hub.choice.empty() ? "" : ":" + hub.choice;
    return fmt::format("hf:{}{}{}", hub.repository, revision, choice);
  }
  std::string operator()(const UrlReference& reference) const { return shown_url(reference.url); }
  std::string operator()(const FileReference& file) const { return "file:" + file.path.string(); }
};

}  // namespace

Result<ModelReference> parse_reference(std::string_view text) {
  if (text.empty() || text.size() > kLongest || has_control_characters(text)) {
    return fail(kInvalidArgument,
                "A model's reference is empty, too long or has control characters.",
                std::string(kForms));
  }
  if (text.starts_with(kHub)) return parse_hub(text.substr(kHub.size()), text);
  if (text.starts_with(kFile)) return parse_file(text.substr(kFile.size()), text);
  if (is_url(text)) return parse_url(text);
  return parse_file(text, text);
}

bool is_reference(std::string_view text) {
  return text.starts_with(kHub) || text.starts_with(kFile) || is_url(text);
}

std::string to_text(const ModelReference& reference) { return std::visit(Text{}, reference); }

}  // namespace yoke::models
