#include "models/http_client.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include <curl/curl.h>
#include <fmt/format.h>

#include "models/http_head.h"

namespace yoke::models {
namespace {

struct CloseEasy {
  void operator()(CURL* easy) const { ::curl_easy_cleanup(easy); }
};
struct CloseMulti {
  void operator()(CURLM* multi) const { ::curl_multi_cleanup(multi); }
};
struct CloseList {
  void operator()(curl_slist* list) const { ::curl_slist_free_all(list); }
};
struct CloseUrl {
  void operator()(CURLU* url) const { ::curl_url_cleanup(url); }
};
struct FreeText {
  void operator()(char* text) const { ::curl_free(text); }
};

using Easy = std::unique_ptr<CURL, CloseEasy>;
using Url = std::unique_ptr<CURLU, CloseUrl>;

constexpr long kReadBuffer = 256 * 1024;
constexpr long kMostRedirects = 8;

// One request on its way; libcurl keeps its address.
struct Transfer {
  HttpRequest request;
  HttpHead head;
  Easy easy;
  std::unique_ptr<curl_slist, CloseList> fields;
  std::array<char, CURL_ERROR_SIZE> error{};
  bool head_told = false;
  bool stopped = false;

  bool tell_head() {
    if (std::exchange(head_told, true)) return true;
    stopped = request.on_head && !request.on_head(head);
    return !stopped;
  }
};

bool is_redirect(int status) { return status / 100 == 3 && status != 304; }

std::size_t take_head_line(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, size * count);
  read_head_line(line, transfer.head);
  const bool ends = line == "\r\n" || line == "\n";
  const bool final = transfer.head.status >= 200 && !is_redirect(transfer.head.status);
  return !ends || !final || transfer.tell_head() ? line.size() : 0;
}

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view bytes(data, size * count);
  if (is_redirect(transfer.head.status)) return bytes.size();
  if (transfer.request.on_body && !transfer.request.on_body(bytes)) {
    transfer.stopped = true;
    return 0;
  }
  return bytes.size();
}

void start_curl_once() {
  [[maybe_unused]] static const CURLcode started = ::curl_global_init(CURL_GLOBAL_DEFAULT);
}

// libcurl's options are checked by its tests: what fails here is memory, and shows when it runs.
template <class T>
void set(const Easy& easy, CURLoption option, T value) {
  ::curl_easy_setopt(easy.get(), option, value);
}

// What to trust in place of the system's certificates.
struct Trust {
  std::string file;
  std::string directory;
};

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// As OpenSSL's programs, requests and curl are told of it. The first that is set counts.
Trust named_trust() {
  Trust trust;
  for (const char* const name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}) {
    std::string path = variable(name);
    if (path.empty()) continue;
    std::error_code error;
    const bool directory = std::filesystem::is_directory(path, error);
    (directory ? trust.directory : trust.file) = std::move(path);
    break;
  }
  if (trust.directory.empty()) trust.directory = variable("SSL_CERT_DIR");
  return trust;
}

void set_trust(const Easy& easy) {
  const Trust trust = named_trust();
  if (trust.file.empty() && trust.directory.empty()) return;  // libcurl knows the system's.
  const auto text = [](const std::string& path) { return path.empty() ? nullptr : path.c_str(); };
  set(easy, CURLOPT_CAINFO, text(trust.file));
  set(easy, CURLOPT_CAPATH, text(trust.directory));
}

void set_fields(Transfer& transfer) {
  const auto add = [&transfer](const std::string& line) {
    curl_slist* longer = ::curl_slist_append(transfer.fields.get(), line.c_str());
    if (longer == nullptr) return;
    [[maybe_unused]] curl_slist* const same = transfer.fields.release();
    transfer.fields.reset(longer);
  };
  // Ranges are of the file itself, not of a compressed form of it.
  add("Accept-Encoding: identity");
  set(transfer.easy, CURLOPT_HTTPHEADER, transfer.fields.get());
}

void prepare(Transfer& transfer, const HttpLimits& limits) {
  const Easy& easy = transfer.easy;
  const HttpRequest& request = transfer.request;
  const bool secure = request.url.starts_with("https://");
  set(easy, CURLOPT_URL, request.url.c_str());
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
  set(easy, CURLOPT_FOLLOWLOCATION, 1L);
  set(easy, CURLOPT_MAXREDIRS, kMostRedirects);
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_USERAGENT, "yoke");
  // Several requests at once shall be several connections.
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(easy, CURLOPT_CONNECTTIMEOUT, static_cast<long>(limits.connect.count()));
  set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(limits.stall.count()));
  set(easy, CURLOPT_BUFFERSIZE, kReadBuffer);
  set(easy, CURLOPT_ERRORBUFFER, transfer.error.data());
  set(easy, CURLOPT_HEADERFUNCTION, &take_head_line);
  set(easy, CURLOPT_HEADERDATA, &transfer);
  set(easy, CURLOPT_WRITEFUNCTION, &take_body);
  set(easy, CURLOPT_WRITEDATA, &transfer);
  // A proxy's answer is not the server's.
  set(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set_trust(easy);
  set_fields(transfer);
  if (!request.bearer.empty()) {
    // libcurl keeps it from other origins, unlike a field of its own in older versions.
    set(easy, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    set(easy, CURLOPT_XOAUTH2_BEARER, request.bearer.c_str());
  }
  if (request.range && request.range->count > 0) {
    const std::string range =
        fmt::format("{}-{}", request.range->first, request.range->first + request.range->count - 1);
    set(easy, CURLOPT_RANGE, range.c_str());
  }
}

// What nobody but the user can change. False if it is something else.
bool explain(const Transfer& transfer, CURLcode code, HttpEnd& end) {
  if (code == CURLE_PEER_FAILED_VERIFICATION) {
    end.problem = transfer.error.data();  // Names the host, and nothing behind it.
    end.remedy =
        "If a proxy or the server has certificates of its own authority, set SSL_CERT_FILE to a "
        "file with that authority's; look also whether the clock is right.";
  } else if (code == CURLE_SSL_CACERT_BADFILE) {
    const Trust trust = named_trust();
    end.problem = fmt::format("the certificates to trust can't be read from {}",
                              !trust.file.empty()        ? trust.file
                              : !trust.directory.empty() ? trust.directory
                                                         : "the system's store");
    end.remedy = "Correct SSL_CERT_FILE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, or unset it.";
    if (trust.file.empty()) end.remedy = "Install the package ca-certificates.";
  } else if (code == CURLE_UNSUPPORTED_PROTOCOL && is_redirect(transfer.head.status)) {
    end.problem = "its server redirects to an address without encryption, or of another kind";
    end.remedy = "Use another address, or one that begins with http:// if that is meant.";
  } else {
    return false;
  }
  return true;
}

void explain_proxy(const Transfer& transfer, HttpEnd& end) {
  long status = 0;
  ::curl_easy_getinfo(transfer.easy.get(), CURLINFO_HTTP_CONNECTCODE, &status);
  if (status / 100 == 2 || status == 0) return;
  end.problem = fmt::format("the proxy answered with status {}", status);
  if (status / 100 != 4) return;
  end.remedy = status == 407 ? "Put the proxy's user and password into https_proxy."
                             : "Look at https_proxy; no_proxy names hosts to ask without it.";
}

// Whether libcurl's own message names the host, and nothing behind it.
bool is_about_connecting(CURLcode code) {
  return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
         code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_SSL_CONNECT_ERROR;
}

HttpEnd end_of(std::size_t id, const Transfer& transfer, CURLcode code) {
  HttpEnd end;
  end.id = id;
  end.head = transfer.head;
  end.stopped = transfer.stopped;
  char* url = nullptr;
  ::curl_easy_getinfo(transfer.easy.get(), CURLINFO_EFFECTIVE_URL, &url);
  if (url != nullptr) end.last_url = url;
  if (code == CURLE_OK || transfer.stopped) return end;
  if (explain(transfer, code, end)) return end;
  if (code == CURLE_OPERATION_TIMEDOUT && transfer.head.status != 0) {
    end.problem = "no bytes came any more";
  } else if (is_about_connecting(code)) {
    end.problem = transfer.error.data();
  }
  if (end.problem.empty()) end.problem = ::curl_easy_strerror(code);
  explain_proxy(transfer, end);
  return end;
}

Url parse_url(std::string_view text) {
  Url url(::curl_url());
  const std::string copy(text);
  if (url && ::curl_url_set(url.get(), CURLUPART_URL, copy.c_str(), 0) != CURLUE_OK) url.reset();
  return url;
}

std::string part_of(const Url& url, CURLUPart part) {
  char* text = nullptr;
  if (::curl_url_get(url.get(), part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) return {};
  const std::unique_ptr<char, FreeText> owner(text);
  std::string copy = text;
  for (char& c : copy) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return copy;
}

}  // namespace

struct HttpClient::Impl {
  HttpLimits limits;
  std::unique_ptr<CURLM, CloseMulti> multi;
  std::map<std::size_t, std::unique_ptr<Transfer>> transfers;
  std::size_t next = 1;

  void take_out(const Transfer& transfer) const {
    ::curl_multi_remove_handle(multi.get(), transfer.easy.get());
  }

  std::vector<HttpEnd> take_ended() {
    std::vector<HttpEnd> ended;
    int more = 0;
    while (const CURLMsg* message = ::curl_multi_info_read(multi.get(), &more)) {
      if (message->msg != CURLMSG_DONE) continue;
      const auto found = std::ranges::find_if(transfers, [message](const auto& entry) {
        return entry.second->easy.get() == message->easy_handle;
      });
      if (found == transfers.end()) continue;
      ended.push_back(end_of(found->first, *found->second, message->data.result));
      take_out(*found->second);
      transfers.erase(found);
    }
    return ended;
  }
};

HttpClient::HttpClient(HttpLimits limits) : impl_(std::make_unique<Impl>()) {
  start_curl_once();
  impl_->limits = limits;
  impl_->multi.reset(::curl_multi_init());
}

HttpClient::~HttpClient() { stop_all(); }

Result<std::size_t> HttpClient::start(HttpRequest request) {
  auto transfer = std::make_unique<Transfer>();
  transfer->request = std::move(request);
  transfer->easy.reset(::curl_easy_init());
  if (!transfer->easy || !impl_->multi) return fail(kInternal, "libcurl has no memory left.");
  prepare(*transfer, impl_->limits);
  if (::curl_multi_add_handle(impl_->multi.get(), transfer->easy.get()) != CURLM_OK) {
    return fail(kInternal, "libcurl did not take a request.");
  }
  impl_->transfers.emplace(impl_->next, std::move(transfer));
  return impl_->next++;
}

std::vector<HttpEnd> HttpClient::wait(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    int running = 0;
    ::curl_multi_perform(impl_->multi.get(), &running);
    std::vector<HttpEnd> ended = impl_->take_ended();
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (!ended.empty() || left.count() <= 0) return ended;
    ::curl_multi_poll(impl_->multi.get(), nullptr, 0, static_cast<int>(left.count()), nullptr);
  }
}

void HttpClient::stop(std::size_t id) {
  const auto found = impl_->transfers.find(id);
  if (found == impl_->transfers.end()) return;
  impl_->take_out(*found->second);
  impl_->transfers.erase(found);
}

void HttpClient::stop_all() {
  for (const auto& [id, transfer] : impl_->transfers) impl_->take_out(*transfer);
  impl_->transfers.clear();
}

bool same_origin(std::string_view a, std::string_view b) {
  const Url first = parse_url(a);
  const Url second = parse_url(b);
  if (!first || !second) return false;
  const auto same = [&](CURLUPart part) { return part_of(first, part) == part_of(second, part); };
  return same(CURLUPART_SCHEME) && same(CURLUPART_HOST) && same(CURLUPART_PORT);
}

std::string url_encode(std::string_view text, bool keep_slash) {
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.' || c == '~' ||
                       (keep_slash && c == '/');
    encoded += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return encoded;
}

std::optional<std::string> url_decode(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto digit = [&](char c) {
    return kDigits.find(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  };
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const std::size_t high = digit(text[i + 1]);
    const std::size_t low = digit(text[i + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (decoded.find('\0') != std::string::npos) return std::nullopt;
  return decoded;
}

}  // namespace yoke::models
