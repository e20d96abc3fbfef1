#include "engines/memory_lock.h"

#include <sys/resource.h>

#include <gtest/gtest.h>

#include "engines/test_support.h"

namespace yoke::engines {
namespace {

bool set_limit(rlim_t bytes) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  limit.rlim_cur = bytes;
  return ::setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

TEST(MemoryLockLimit, IsTheResourceLimitWithoutTheCapability) {
  for (const std::uint64_t bytes : {0u, 65536u}) {
    EXPECT_TRUE(true_without_capabilities([bytes] {
      return set_limit(bytes) && memory_lock_limit() == bytes;
    })) << bytes;
  }
}

}  // namespace
}  // namespace yoke::engines
