#include "cli/detect.h"

#include <array>
#include <cstdio>

#include "cli/answer_view.h"
#include "cli/machine_view.h"
#include "cli/terminal.h"

namespace yoke::cli {
namespace {

constexpr std::array kLibraryDirs{"usr/lib", "usr/lib64", "usr/lib/x86_64-linux-gnu",
                                  "opt/rocm/lib", "usr/local/lib"};

}  // namespace

Result<hardware::DetectOptions> hardware_options(const std::string& root, bool load_libraries) {
  const std::filesystem::path directory = root.empty() ? "/" : root;
  YOKE_TRY(hardware::HostFiles files, hardware::HostFiles::open(directory));
  hardware::DetectOptions options{.files = std::move(files)};
  if (!options.files.is_this_machine() && !load_libraries) return options;
  options.probes.command = {"/proc/self/exe", std::string(kProbeCommand)};
  if (options.files.is_this_machine()) return options;
  for (const char* const dir : kLibraryDirs) options.probes.library_dirs.push_back(directory / dir);
  return options;
}

Result<void> detect(const DetectCommandOptions& options) {
  YOKE_TRY(hardware::DetectOptions detection,
           hardware_options(options.root, options.load_libraries));
  // Of a copy of another machine's files it would be this one's bandwidth.
  detection.measure_bandwidth = !options.no_bandwidth && detection.files.is_this_machine();
  detection.offer_software = options.software;
  const hardware::Machine machine = hardware::detect(detection);
  const std::string text = options.json ? hardware::to_json(machine) + "\n"
                                        : format_machine(machine, Terminal::of(stdout));
  std::fputs(text.c_str(), stdout);
  return flush_stdout();
}

}  // namespace yoke::cli
