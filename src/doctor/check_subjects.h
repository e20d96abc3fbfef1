// The checks by subject; check() of checks.h runs them all. Internal to this module. Pure; any
// thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "doctor/checks.h"

namespace yoke::doctor {

// Refers to what it was made from.
struct CheckInput {
  const SystemState& state;
  const hardware::Machine& machine;
  const CheckOptions& options;

  const hardware::Host& host() const { return machine.host; }
  const Account& account() const { return options.account ? *options.account : state.account; }
};

// Each adds its findings.
void check_unified_memory(const CheckInput& input, std::vector<Finding>& findings);
void check_amdgpu(const CheckInput& input, std::vector<Finding>& findings);
void check_vulkan(const CheckInput& input, std::vector<Finding>& findings);
void check_access(const CheckInput& input, std::vector<Finding>& findings);
void check_host(const CheckInput& input, std::vector<Finding>& findings);
void check_nvidia(const CheckInput& input, std::vector<Finding>& findings);

// A GPU of AMD's that draws as well: RDNA or GCN, which Vulkan drivers support.
bool is_amd_graphics(const hardware::Device& device);
bool has_amd_graphics(const hardware::Machine& machine);
// gfx1150, gfx1151 and so on.
bool has_gfx115x(const hardware::Machine& machine);
// A backend on the GPU itself, apart from `except`.
bool has_other_backend(const hardware::Device& device, hardware::Backend except);

// Where a module parameter comes from: "on the kernel's command line", "in /etc/modprobe.d/a.conf",
// empty if nothing sets it.
std::string where_set(const CheckInput& input, std::string_view module, std::string_view name);

}  // namespace yoke::doctor
