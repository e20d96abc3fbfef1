// Which files of a hub's repository are meant by a choice. Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "models/catalogue.h"
#include "models/digest.h"

namespace yoke::models {

struct HubFile {
  std::string path;  // In the repository.
  std::uint64_t bytes = 0;
  Checksum checksum{};
};

struct ChosenFile {
  HubFile file;
  FileRole role = FileRole::kWeights;
};

struct Choice {
  std::string format;             // "gguf", "huggingface"
  std::string name;               // That a model of these files has by itself.
  std::vector<ChosenFile> files;  // Of a split GGUF model the parts in order, then the rest.
};

// `choice`: a quantization, in any case, or a file by its name or path; empty: the usual one.
// `projector`: also the mmproj file, if there is one. `repository` is for messages and the name.
// kHubNotFound with what there is.
Result<Choice> choose(const std::vector<HubFile>& files, std::string_view choice, bool projector,
                      std::string_view repository);

}  // namespace yoke::models
