// The one number that placement needs: how much memory a model can have on a device. Pure; any
// thread.
#pragma once

#include "hardware/host.h"
#include "hardware/machine.h"

namespace yoke::hardware {

// From the device's vendor, kind and memory_facts. A device that nobody asked for its memory has a
// total of 0 and a note.
MemoryBudget memory_budget(const Device& device, const HostMemory& host);

}  // namespace yoke::hardware
