// Taking out of a report what is nobody's business: names of users and of the machine, keys,
// serial numbers, addresses. Pure, except read_identity(); any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hardware/host_files.h"

namespace yoke::doctor {

struct Identity {
  std::vector<std::string> users;  // Names of people's accounts.
  std::vector<std::string> hosts;  // The machine's names.
};
Identity read_identity(const hardware::HostFiles& files);

// `text` with [user], [host], [key], [uuid], [mac], [ip] and [serial] in place of those. PCI
// addresses, versions and times stay.
std::string redact(std::string_view text, const Identity& identity);

// True for a field of a JSON document whose value is secret whatever it looks like ("serial").
bool is_secret_name(std::string_view name);

}  // namespace yoke::doctor
