// Opening files below a directory that stands for "/", so that no link and no ".." leads out of it.
// The descriptors belong to the caller; any thread.
#pragma once

#include <string>

#include "base/unique_fd.h"

namespace yoke::hardware {

// `path` is absolute and counts from `root`. Without a descriptor errno says why.
UniqueFd open_in_root(int root, const std::string& path, int flags);

// The same for a kernel without openat2(2), or a container that forbids it: any link on the way
// fails with ELOOP, and so does "..". With O_PATH | O_NOFOLLOW the last component may be a link.
UniqueFd open_without_links(int root, const std::string& path, int flags);

}  // namespace yoke::hardware
