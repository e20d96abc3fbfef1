// The device nodes that a GPU is used through, whether this process may open them, and what to do
// if not. Blocking looks at files; any thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "hardware/host.h"
#include "hardware/host_files.h"
#include "hardware/machine.h"

namespace yoke::hardware {

struct DeviceNode {
  std::string path;
  bool present = false;
  bool accessible = false;  // For reading and writing.
  gid_t gid = 0;
  std::string group;  // The name of `gid`; empty if it has none here.
};

struct DeviceNodes {
  DeviceNode kfd;
  std::map<int, DeviceNode> render;  // By N of /dev/dri/renderDN.
  DeviceNode nvidia;                 // /dev/nvidiactl
};

// Looks at the nodes that `devices` need. On this machine the kernel is asked for access; for a
// copy of another's files the permissions and /proc/self/status decide.
DeviceNodes read_device_nodes(const HostFiles& files, const std::vector<Device>& devices);

// Why a node can't be used, with the remedy; empty if it can. Pure.
std::string obstacle(const DeviceNode& node, const Container& container);
// The obstacles of all nodes that the devices need, each once. Pure.
std::vector<std::string> obstacles(const DeviceNodes& nodes, const std::vector<Device>& devices,
                                   const Container& container);

}  // namespace yoke::hardware
