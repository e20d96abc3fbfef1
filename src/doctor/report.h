// `yoke doctor` for programs (--json) and for a bug report (--report), as JSON documents.
// Pure, except read_kernel_messages(); any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/result.h"
#include "doctor/finding.h"
#include "doctor/redact.h"
#include "doctor/state.h"
#include "hardware/host_files.h"
#include "hardware/machine.h"

namespace yoke::doctor {

boost::json::value to_json(const std::vector<Finding>& findings);

struct KernelMessages {
  std::vector<std::string> lines;  // The newest that concern GPUs or memory, at most 200.
  std::string note;                // Why there are none; may be empty.
};
// From the kernel itself on this machine, from /var/log/dmesg of a copy. Does not block.
KernelMessages read_kernel_messages(const hardware::HostFiles& files);
// The lines of a kernel log that a report carries. Pure.
std::vector<std::string> relevant_lines(std::string_view log);

// Everything in one document with nothing in it that names people, machines or secrets.
// kInvalidJson if the machine's own document is none.
Result<boost::json::value> make_report(const std::string& version, const hardware::Machine& machine,
                                       const SystemState& state,
                                       const std::vector<Finding>& findings,
                                       const KernelMessages& messages, const Identity& identity);

// The same for people to read and paste.
std::string report_text(const boost::json::value& report);

}  // namespace yoke::doctor
