#include "gguf/model.h"

#include <charconv>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "gguf/file_source.h"

namespace yoke::gguf {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kMostParts = 1024;
constexpr std::size_t kMostTensors = Limits{}.tensors;
constexpr std::string_view kSameDownload =
    "Get all parts of the model again, from the same download.";

std::optional<std::uint32_t> five_digits(std::string_view text) {
  std::uint32_t number = 0;
  if (text.size() != 5 || text.front() < '0' || text.front() > '9') return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Result<Header> read_file(const fs::path& path) {
  YOKE_TRY(FileSource source, FileSource::open(path));
  return read_header(source);
}

Result<SplitName> name_of_first(const fs::path& path, const Split& split) {
  const auto name = parse_split_name(path.filename().native());
  if (name && name->number == 1 && name->count == split.count) return *name;
  return fail(kGgufInvalid,
              fmt::format("{} is the first of {} parts of a model; the others can't be found, as a "
                          "name that ends in -00001-of-{:05}.gguf was expected.",
                          path.native(), split.count, split.count),
              "Give the parts the names that they were published with.");
}

Result<Header> read_part(const fs::path& path, std::uint32_t number, std::uint32_t count) {
  Result<Header> header = read_file(path);
  if (header || header.error().code != kModelFileMissing) return header;
  return fail(kModelFileMissing,
              fmt::format("Part {} of the {} of this model is missing: there is no {}.", number,
                          count, path.native()),
              "Put all parts of the model into one directory.");
}

}  // namespace

std::uint64_t Model::file_bytes() const {
  std::uint64_t sum = 0;
  for (const Part& part : parts) sum += part.file_bytes;
  return sum;
}

std::string SplitName::of(std::uint32_t part_number) const {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, part_number, count);
}

std::optional<SplitName> parse_split_name(std::string_view file_name) {
  constexpr std::string_view kForm = "-00001-of-00003.gguf";
  if (file_name.size() <= kForm.size()) return std::nullopt;
  const std::string_view end = file_name.substr(file_name.size() - kForm.size());
  if (end[0] != '-' || end.substr(6, 4) != "-of-" || end.substr(15) != ".gguf") return std::nullopt;
  const auto number = five_digits(end.substr(1, 5));
  const auto count = five_digits(end.substr(10, 5));
  if (!number || !count || *number == 0 || *number > *count) return std::nullopt;
  return SplitName{std::string(file_name.substr(0, file_name.size() - kForm.size())), *number,
                   *count};
}

Result<void> ModelAssembly::check_fit(const Header& header) const {
  const auto no_fit = [&](std::string_view what) {
    return fail(kGgufInvalid, fmt::format("{} {}.", header.name, what), std::string(kSameDownload));
  };
  if (model_.parts.empty()) return {};
  const std::size_t index = model_.parts.size();
  if (!header.split || header.split->count != count_ || header.split->number != index) {
    return no_fit(
        fmt::format("is not part {} of {} of the model, which was expected", index + 1, count_));
  }
  const std::string_view architecture = header.metadata.architecture();
  if (!architecture.empty() && architecture != model_.metadata.architecture()) {
    return no_fit("is part of a model of another architecture than the first part");
  }
  if (header.split->tensors && tensor_count_ && header.split->tensors != tensor_count_) {
    return no_fit("is part of a model with another number of tensors than the first part");
  }
  return {};
}

Result<void> ModelAssembly::add(Header header) {
  YOKE_CHECK(check_fit(header));
  if (model_.tensors.size() + header.tensors.size() > kMostTensors ||
      (header.split && header.split->count > kMostParts)) {
    return fail(kGgufUnsupported,
                fmt::format("{} is part of a model of more than {} parts or {} tensors.",
                            header.name, kMostParts, kMostTensors));
  }
  if (model_.parts.empty()) {
    model_.version = header.version;
    model_.metadata = std::move(header.metadata);
    const bool is_first = !header.split || header.split->number == 0;
    if (!is_first) model_.lone_part = header.split;
    count_ = header.split && is_first ? header.split->count : 1;
    if (is_first && header.split) tensor_count_ = header.split->tensors;
  }
  for (Tensor& tensor : header.tensors) {
    if (count_ > 1 && !names_.insert(tensor.name).second) {
      return fail(kGgufInvalid,
                  fmt::format("{} holds a tensor that an earlier part of the model holds too.",
                              header.name),
                  std::string(kSameDownload));
    }
    tensor.part = static_cast<std::uint32_t>(model_.parts.size());
  }
  std::ranges::move(header.tensors, std::back_inserter(model_.tensors));
  model_.parts.push_back(
      {std::move(header.name), header.file_bytes, header.header_bytes, header.data_offset});
  return {};
}

Result<Model> ModelAssembly::finish() {
  if (model_.parts.empty() || model_.parts.size() != count_) {
    return fail(kGgufTruncated,
                fmt::format("{} of {} parts of the model are there.", model_.parts.size(), count_),
                std::string(kSameDownload));
  }
  if (tensor_count_ && *tensor_count_ != model_.tensors.size()) {
    return fail(kGgufTruncated,
                fmt::format("The parts of {} hold {} tensors; {} were expected.",
                            model_.parts.front().name, model_.tensors.size(), *tensor_count_),
                std::string(kSameDownload));
  }
  return std::move(model_);
}

Result<Model> open_model(const fs::path& path) {
  YOKE_TRY(Header first, read_file(path));
  const std::optional<Split> split = first.split;
  ModelAssembly assembly;
  YOKE_CHECK(assembly.add(std::move(first)));
  if (assembly.expected_parts() <= 1 || !split) return assembly.finish();
  YOKE_TRY(const SplitName name, name_of_first(path, *split));
  for (std::uint32_t number = 2; number <= name.count; ++number) {
    YOKE_TRY(Header part, read_part(path.parent_path() / name.of(number), number, name.count));
    YOKE_CHECK(assembly.add(std::move(part)));
  }
  return assembly.finish();
}

}  // namespace yoke::gguf
