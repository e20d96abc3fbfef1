// Why an instance runs as it does.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/shell_words.h"
#include "engines/launch.h"
#include "engines/model_format.h"
#include "engines/vllm.h"
#include "supervisor/instance.h"

namespace yoke::supervisor {
namespace {

using engines::EngineKind;

constexpr std::size_t kFailuresToShow = 20;
// What vLLM needs beside the weights, for the context and its work: a fifth.
constexpr double kRoomBesideWeights = 1.2;
constexpr std::size_t kMaxNodes = 64;

// With what is set in the environment before it.
std::string to_start(const engines::CommandLine& command) {
  std::string line;
  for (const auto& [name, value] : command.env) line += name + "=" + shell_quoted(value) + " ";
  return line + shell_line(command.argv);
}

// What vLLM can have of this machine, in bytes.
std::uint64_t memory_for_vllm(const hardware::Machine& machine, std::string_view backend) {
  if (backend == "cpu") return machine.host.memory.total;
  std::uint64_t total = 0;
  for (const hardware::Device& device : machine.devices) {
    if (!device.software && device.vllm_supported) total += device.memory.total;
  }
  return total;
}

}  // namespace

Explanation Instance::explain() const {
  Explanation explanation;
  explanation.model = model_.name;
  explanation.file = model_.options.model_path.string();
  explanation.state = name_of(route_.state);
  explanation.order = engines::order_reason(route_.kind, machine(), model_.options);
  const auto now = std::chrono::system_clock::now();
  for (std::size_t i = 0; i < choice_.engines.size(); ++i) {
    const Engine& candidate = choice_.engines[i];
    const store::Case known = standing_->of(i);
    auto quarantine = context_.history.quarantine(known);
    if (quarantine && quarantine->until <= now) quarantine.reset();
    explanation.candidates.push_back({candidate.install.backend, full_name(candidate),
                                      candidate.driver, i == current_, std::move(quarantine),
                                      context_.history.check(known)});
  }
  explanation.ruled_out = choice_.ruled_out;
  explanation.failures = context_.history.failures(model_.name, kFailuresToShow);
  if (choice_.engines.empty()) return explanation;

  explanation.decisions = decisions_.decisions;
  const EngineStart start = engine_start();
  const engines::Launch launch{start.engine.install, start.engine.capabilities, start.options,
                               start.alias,          route_.endpoint.port,      "",
                               start.machine};
  if (auto command = engines::command_line(launch)) {
    explanation.notes = start.engine.notes;
    explanation.notes.insert(explanation.notes.end(), command->notes.begin(), command->notes.end());
    if (rpc_ && !rpc_->why_other().empty()) explanation.notes.push_back(rpc_->why_other());
    explanation.command = std::move(command->argv);
  }
  explanation.multi_node = commands_for_several_machines();
  return explanation;
}

// Nothing where one machine is enough.
std::vector<std::string> Instance::commands_for_several_machines() const {
  if (route_.kind != EngineKind::kVllm || machine() == nullptr) return {};
  const Engine& vllm = engine();
  const auto have = static_cast<double>(memory_for_vllm(context_.machine, vllm.install.backend));
  const auto needed =
      kRoomBesideWeights * static_cast<double>(engines::weights_bytes(model_.options.model_path));
  if (have <= 0 || needed <= have) return {};
  const auto nodes = std::min(static_cast<std::size_t>(std::ceil(needed / have)), kMaxNodes);
  std::vector<std::string> hosts{"ADDRESS_OF_THIS_MACHINE"};
  for (std::size_t i = 2; i <= nodes; ++i) hosts.push_back(fmt::format("ADDRESS_{}", i));
  const auto commands =
      engines::vllm_multi_node(vllm.install, vllm.capabilities, decisions_.options, model_.name,
                               route_.endpoint.port, hosts);
  std::vector<std::string> lines;
  if (commands) std::ranges::transform(*commands, std::back_inserter(lines), to_start);
  return lines;
}

}  // namespace yoke::supervisor
