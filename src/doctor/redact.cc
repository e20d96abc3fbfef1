#include "doctor/redact.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "doctor/text.h"
#include "hardware/text_fields.h"

namespace yoke::doctor {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }
bool is_word(char c) { return is_digit(c) || is_letter(c) || c == '_'; }
bool is_hex(char c) { return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f'); }
bool is_key_character(char c) {
  return is_word(c) || c == '-' || c == '.' || c == '+' || c == '/' || c == '=';
}

std::string lowered(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

template <class Predicate>
std::size_t run_length(std::string_view text, Predicate predicate) {
  const auto end = std::find_if_not(text.begin(), text.end(), predicate);
  return static_cast<std::size_t>(end - text.begin());
}

// What begins at the start of `text`; 0: nothing of the kind. The caller knows that no word goes on
// from before.

// 8-4-4-4-12 hexadecimal digits.
std::size_t uuid_length(std::string_view text) {
  constexpr std::array<std::size_t, 5> kGroups{8, 4, 4, 4, 12};
  std::size_t at = 0;
  for (const std::size_t group : kGroups) {
    if (at != 0) {
      if (at >= text.size() || text[at] != '-') return 0;
      ++at;
    }
    if (run_length(text.substr(at), is_hex) != group) return 0;
    at += group;
  }
  return at;
}

// Some file systems have shorter ones, "1234-ABCD", that only their place tells.
std::size_t named_uuid_length(std::string_view text) {
  for (const std::string_view name : {"by-uuid/", "by-partuuid/", "by-id/"}) {
    if (!text.starts_with(name)) continue;
    const auto part = [](char c) { return is_word(c) || c == '-'; };
    return name.size() + run_length(text.substr(name.size()), part);
  }
  return 0;
}

// Six pairs of hexadecimal digits.
std::size_t mac_length(std::string_view text) {
  for (std::size_t pair = 0; pair < 6; ++pair) {
    const std::size_t at = pair * 3;
    if (run_length(text.substr(std::min(at, text.size())), is_hex) != 2) return 0;
    if (pair < 5 && (at + 2 >= text.size() || (text[at + 2] != ':' && text[at + 2] != '-'))) {
      return 0;
    }
  }
  constexpr std::size_t kLength = 17;
  return text.size() > kLength && text[kLength] == ':' ? 0 : kLength;
}

std::size_t ipv4_length(std::string_view text) {
  std::size_t at = 0;
  for (int part = 0; part < 4; ++part) {
    if (part != 0) {
      if (at >= text.size() || text[at] != '.') return 0;
      ++at;
    }
    const std::size_t digits = run_length(text.substr(at), is_digit);
    const auto value = number_of<int>(text.substr(at, digits));
    if (digits > 3 || !value || *value > 255) return 0;
    at += digits;
  }
  const bool longer = at + 1 < text.size() && text[at] == '.' && is_digit(text[at + 1]);
  return longer || text.starts_with("127.") ? 0 : at;
}

// Eight groups, or fewer with "::"; a PCI address and a time have neither.
std::size_t ipv6_length(std::string_view text) {
  const std::size_t length = run_length(text, [](char c) { return is_hex(c) || c == ':'; });
  const std::string_view address = text.substr(0, length);
  const std::size_t gap = address.find("::");
  const auto groups = split(address, ':');
  const bool short_groups = std::all_of(groups.begin(), groups.end(),
                                        [](std::string_view group) { return group.size() <= 4; });
  if (!short_groups || groups.size() > 8) return 0;
  const bool shortened = gap != std::string_view::npos && length > 3;
  return shortened || groups.size() == 8 ? length : 0;
}

// Keys of services by how they begin, and anything behind "Bearer".
std::size_t key_length(std::string_view text) {
  constexpr std::size_t kShortest = 12;
  for (const std::string_view start :
       {"sk-", "hf_", "ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "AKIA", "eyJ", "nvapi-"}) {
    if (!text.starts_with(start)) continue;
    const std::size_t length = run_length(text, is_key_character);
    if (length >= kShortest) return length;
  }
  return 0;
}

// A long run of letters and digits mixed, as random bytes are written.
std::size_t random_length(std::string_view text) {
  constexpr std::size_t kShortest = 32;
  const std::size_t length = run_length(text, is_word);
  const std::string_view run = text.substr(0, length);
  const bool mixed = std::any_of(run.begin(), run.end(), is_digit) &&
                     std::any_of(run.begin(), run.end(), is_letter) &&
                     run.find('_') == std::string_view::npos;
  return length >= kShortest && mixed ? length : 0;
}

struct Named {
  std::size_t name = 0;   // The name with what separates it from its value: stays.
  std::size_t value = 0;  // Goes.
};

// "api_key = VALUE", "serial: VALUE", "Authorization: Bearer VALUE".
Named named_secret(std::string_view text) {
  const std::size_t length = run_length(text, [](char c) { return is_word(c) || c == '-'; });
  std::string_view name = text.substr(0, length);
  std::size_t at = length;
  if (lowered(name) == "bearer") {
    at += run_length(text.substr(at), [](char c) { return c == ' '; });
    return at == length ? Named{} : Named{at, run_length(text.substr(at), is_key_character)};
  }
  // "Serial Number: X" is two words.
  if (lowered(text.substr(0, 13)) == "serial number") {
    name = text.substr(0, 6);
    at = 13;
  }
  if (!is_secret_name(name)) return {};
  at += run_length(text.substr(at), [](char c) { return c == ' ' || c == '"' || c == '\''; });
  if (at >= text.size() || (text[at] != '=' && text[at] != ':')) return {};
  at += run_length(text.substr(at), [](char c) {
    return c == '=' || c == ':' || c == ' ' || c == '\t' || c == '"' || c == '\'';
  });
  if (lowered(text.substr(at, 7)) == "bearer ") at += 7;
  const std::size_t value = run_length(text.substr(at), [](char c) {
    return c != ' ' && c != '\n' && c != '"' && c != '\'' && c != ',' && c != ';' && c != '}';
  });
  return {at, value};
}

const std::string* name_at(std::string_view text, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (text.starts_with(name) && (text.size() == name.size() || !is_word(text[name.size()]))) {
      return &name;
    }
  }
  return nullptr;
}

struct Match {
  std::size_t length = 0;
  std::string_view replacement;
};

Match match_at(std::string_view text, const Identity& identity) {
  for (const std::string_view home : {"/home/", "/Users/", "/var/home/"}) {
    if (!text.starts_with(home)) continue;
    const auto in_name = [](char c) { return is_word(c) || c == '-' || c == '.'; };
    return {home.size() + run_length(text.substr(home.size()), in_name), "/home/[user]"};
  }
  if (const std::size_t length = uuid_length(text)) return {length, "[uuid]"};
  if (const std::size_t length = named_uuid_length(text)) return {length, "by-uuid/[uuid]"};
  if (const std::size_t length = mac_length(text)) return {length, "[mac]"};
  if (const std::size_t length = ipv4_length(text)) return {length, "[ip]"};
  if (const std::size_t length = ipv6_length(text)) return {length, "[ip]"};
  if (const std::size_t length = key_length(text)) return {length, "[key]"};
  if (const std::size_t length = random_length(text)) return {length, "[key]"};
  if (const auto* user = name_at(text, identity.users)) return {user->size(), "[user]"};
  if (const auto* host = name_at(text, identity.hosts)) return {host->size(), "[host]"};
  return {};
}

void add_name(std::vector<std::string>& names, std::string_view name) {
  constexpr std::size_t kShortest = 2;
  if (name.size() < kShortest || name == "localhost") return;
  names.emplace_back(name);
}

}  // namespace

bool is_secret_name(std::string_view name) {
  std::string plain = lowered(name);
  std::replace(plain.begin(), plain.end(), '-', '_');
  for (const std::string_view secret :
       {"serial", "serial_number", "serialnumber", "uuid", "partuuid", "gpu_uuid", "unique_id",
        "api_key", "apikey", "key", "token", "access_token", "secret", "password", "passphrase",
        "hostname", "authorization", "machine_id"}) {
    if (plain == secret || plain.ends_with(fmt::format("_{}", secret))) return true;
  }
  return false;
}

Identity read_identity(const hardware::HostFiles& files) {
  Identity identity;
  constexpr std::uint32_t kFirstPerson = 1000;
  constexpr std::uint32_t kNobody = 65534;
  if (const auto passwd = files.read("/etc/passwd", 1u << 20)) {
    for (const std::string_view line : lines_of(*passwd)) {
      const auto fields = split(line, ':');
      const auto uid = fields.size() > 2 ? number_of<std::uint32_t>(fields[2]) : std::nullopt;
      if (uid && *uid >= kFirstPerson && *uid != kNobody) add_name(identity.users, fields[0]);
    }
  }
  // Members of the GPUs' groups are people too, also in a copy without passwd.
  if (const auto groups = files.read("/etc/group", 1u << 20)) {
    for (const std::string_view line : lines_of(*groups)) {
      const auto fields = split(line, ':');
      if (fields.size() < 4 || (fields[0] != "render" && fields[0] != "video")) continue;
      for (const std::string_view member : split(hardware::trim(fields[3]), ',')) {
        add_name(identity.users, member);
      }
    }
  }
  const auto os = files.read("/etc/os-release");
  const std::string_view id = os ? hardware::field(*os, "ID", '=').value_or("") : "";
  for (const std::string_view path : {"/proc/sys/kernel/hostname", "/etc/hostname"}) {
    const auto name = files.read_line(path);
    // A machine that is called "fedora" as it came tells nothing.
    if (!name || *name == id) continue;
    add_name(identity.hosts, *name);
    add_name(identity.hosts, std::string_view(*name).substr(0, name->find('.')));
  }
  return identity;
}

std::string redact(std::string_view text, const Identity& identity) {
  std::string result;
  result.reserve(text.size());
  bool inside_word = false;
  while (!text.empty()) {
    if (!inside_word || text[0] == '/') {
      if (const Named named = named_secret(text); named.value != 0) {
        result.append(text.substr(0, named.name)).append("[secret]");
        text.remove_prefix(named.name + named.value);
        continue;
      }
      if (const Match match = match_at(text, identity); match.length != 0) {
        result += match.replacement;
        text.remove_prefix(match.length);
        continue;
      }
    }
    inside_word = is_word(text[0]);
    result += text[0];
    text.remove_prefix(1);
  }
  return result;
}

}  // namespace yoke::doctor
