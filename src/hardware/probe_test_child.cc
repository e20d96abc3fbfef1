// What probe_test starts in place of `yoke __probe`.
#include <string>
#include <vector>

#include "hardware/probe.h"

int main(int argc, char** argv) {
  return yoke::hardware::run_probe_child(std::vector<std::string>(argv + 1, argv + argc));
}
