#include "config/machines_file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include "base/units.h"
#include "config/config.h"
#include "config/toml_reader.h"

namespace yoke::config {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFileBytes = 1u << 20;
constexpr std::size_t kMaxMachines = 64;
constexpr std::size_t kMaxGpus = 16;  // Of one machine, the most that llama.cpp takes of CUDA's.
constexpr std::size_t kMaxNameLength = 64;
constexpr std::uint64_t kMinMemory = 1u << 20;
constexpr std::uint64_t kMaxMemory = std::uint64_t{1} << 44;
constexpr std::array<std::string_view, 3> kGpuBackends{"vulkan", "rocm", "cuda"};

constexpr std::string_view kExample = "Add one:\n\n[[machine]]\nname = \"box\"\nmemory = \"64GiB\"";

// One that can stand in a table of text.
bool is_name(std::string_view name) {
  const auto is_visible = [](char c) {
    return static_cast<unsigned char>(c) >= 0x80 || std::isprint(static_cast<unsigned char>(c));
  };
  return !name.empty() && name.size() <= kMaxNameLength && name.front() != ' ' &&
         name.back() != ' ' && std::ranges::all_of(name, is_visible);
}

class MachinesReader {
 public:
  explicit MachinesReader(const fs::path& file) : problems_(file) {}

  Result<MachinesFile> read(std::string_view text) {
    if (const auto document = parse_toml(text, problems_)) read_document(*document);
    if (!problems_.empty()) return fail(problems_.to_error());
    return std::move(machines_);
  }

 private:
  void read_document(const toml::table& document) {
    TomlTable root(document, {}, problems_);
    for (TomlTable& table : root.tables_of("machine")) read_machine(table);
    root.reject_unknown();
    const auto& machines = machines_.machines;
    if (machines.empty() && problems_.empty()) {
      problems_.add(0, kConfigInvalid, fmt::format("no machine is described. {}", kExample));
    }
    if (machines.size() > kMaxMachines) {
      problems_.add(0, kConfigInvalid, fmt::format("more than {} machines.", kMaxMachines));
    }
    refuse_names_that_meet();
  }

  void read_machine(TomlTable& table) {
    DescribedMachine machine;
    machine.line = table.line();
    read_name(table, machine.name, "such as \"box\"");
    if (!table.read_size("memory", machine.memory, kMinMemory, kMaxMemory) &&
        !table.has("memory")) {
      table.refuse("memory", "is missing. Say how much programs can have, such as \"120GiB\".");
    }
    std::uint64_t reserve = 0;
    if (table.read_size("reserve", reserve, 0, kMaxMemory)) machine.reserve = reserve;
    if (machine.memory > 0 && reserve >= machine.memory) {
      table.refuse("reserve", fmt::format("{} of {} leaves nothing.", format_memory(reserve),
                                          format_memory(machine.memory)));
    }
    std::size_t count = 1;
    table.read("count", count, 1, kMaxMachines);
    for (TomlTable& gpu : table.tables_of("gpu")) machine.gpus.push_back(read_gpu(gpu, machine));
    if (machine.gpus.size() > kMaxGpus) {
      table.refuse("gpu", fmt::format("more than {} of them in one machine.", kMaxGpus));
    }
    table.reject_unknown();
    add(machine, count);
  }

  DescribedGpu read_gpu(TomlTable& table, const DescribedMachine& machine) {
    DescribedGpu gpu;
    read_name(table, gpu.name, "such as \"Radeon 8060S\"");
    table.read_one_of("backend", gpu.backend, kGpuBackends);
    table.read("gfx", gpu.gfx);
    table.read("unified", gpu.unified);
    std::uint64_t memory = 0;
    if (table.read_size("memory", memory, kMinMemory, kMaxMemory)) {
      gpu.memory = memory;
    } else if (!gpu.unified && !table.has("memory")) {
      table.refuse("memory",
                   "is missing. Say how much the GPU has, or that it computes in the machine's "
                   "memory: unified = true.");
    }
    if (gpu.unified && machine.memory > 0 && memory > machine.memory) {
      table.refuse("memory", fmt::format("of the machine's {} it can't map {}.",
                                         format_memory(machine.memory), format_memory(memory)));
    }
    table.reject_unknown();
    return gpu;
  }

  static void read_name(TomlTable& table, std::string& name, std::string_view example) {
    if (!table.read("name", name)) {
      if (!table.has("name")) table.refuse("name", fmt::format("is missing, {}.", example));
    } else if (!is_name(name)) {
      table.refuse(
          "name", fmt::format("expected 1 to {} visible characters, {}.", kMaxNameLength, example));
    }
  }

  // Several that are alike are numbered from 1.
  void add(const DescribedMachine& machine, std::size_t count) {
    auto& machines = machines_.machines;
    for (std::size_t i = 1; i <= count && machines.size() <= kMaxMachines; ++i) {
      machines.push_back(machine);
      if (count > 1) machines.back().name += fmt::format("-{}", i);
    }
  }

  void refuse_names_that_meet() {
    const auto& machines = machines_.machines;
    for (std::size_t i = 0; i < machines.size(); ++i) {
      const auto before =
          std::ranges::find(machines.begin(), machines.begin() + static_cast<std::ptrdiff_t>(i),
                            machines[i].name, &DescribedMachine::name);
      if (before == machines.begin() + static_cast<std::ptrdiff_t>(i)) continue;
      if (machines[i].name.empty()) continue;  // Said already.
      problems_.add(machines[i].line, kConfigInvalid,
                    fmt::format("there is a machine '{}' in line {} already. For several that are "
                                "alike, write one with count = N.",
                                machines[i].name, before->line));
      return;
    }
  }

  MachinesFile machines_;
  Problems problems_;
};

}  // namespace

Result<MachinesFile> parse_machines(std::string_view text, const fs::path& file) {
  return MachinesReader(file).read(text);
}

Result<MachinesFile> load_machines(const fs::path& file) {
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  if (status.type() == fs::file_type::not_found || fs::is_directory(status)) {
    return fail(kConfigNotFound, fmt::format("There is no file {}.", file.string()),
                "Name a file that describes machines; examples/four-strix-halo.toml is one.");
  }
  std::ifstream in(file, std::ios::binary);
  std::string text(kMaxFileBytes + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad()) {
    return fail(kIo, fmt::format("{} can't be read.", file.string()),
                "Check its owner and permissions.");
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxFileBytes) {
    return fail(kConfigInvalid,
                fmt::format("{} is longer than {} bytes.", file.string(), kMaxFileBytes),
                "Is this the right file?");
  }
  return parse_machines(text, file);
}

}  // namespace yoke::config
