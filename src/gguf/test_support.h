// What tests of GGUF share: a source that is no file, a small model, a directory of their own. One
// thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <stdlib.h>
#include <string>
#include <utility>
#include <vector>

#include "gguf/byte_source.h"
#include "gguf/test_writer.h"

namespace yoke::gguf {

// A string as a file, which counts what is read of it.
class StringSource final : public ByteSource {
 public:
  explicit StringSource(std::string bytes, bool knows_size = true)
      : bytes_(std::move(bytes)), knows_size_(knows_size) {}

  Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override {
    if (offset >= fails_from) return fail(kIo, "The connection was cut.");
    largest_read = std::max<std::uint64_t>(largest_read, into.size());
    const std::uint64_t start = std::min<std::uint64_t>(offset, bytes_.size());
    const std::size_t count = std::min<std::size_t>(into.size(), bytes_.size() - start);
    std::copy_n(bytes_.data() + start, count, into.data());
    furthest = std::max(furthest, start + count);
    return count;
  }
  std::optional<std::uint64_t> size() const override {
    return knows_size_ ? std::optional<std::uint64_t>(bytes_.size()) : std::nullopt;
  }
  const std::string& name() const override { return name_; }

  std::uint64_t furthest = 0;
  std::uint64_t largest_read = 0;
  std::uint64_t fails_from = ~std::uint64_t{0};

 private:
  std::string bytes_;
  std::string name_ = "model.gguf";
  bool knows_size_;
};

// A small model with the values that most have.
inline Writer small_model() {
  Writer writer;
  writer.add("general.architecture", "llama")
      .add("general.name", "Tiny")
      .add<std::uint32_t>("general.file_type", 15)
      .add<std::uint32_t>("llama.context_length", 4096)
      .add<std::uint32_t>("llama.block_count", 2)
      .add<std::uint32_t>("llama.embedding_length", 256)
      .add<std::uint32_t>("llama.attention.head_count", 8)
      .add<std::uint32_t>("llama.attention.head_count_kv", 2)
      .add("tokenizer.ggml.model", "gpt2")
      .add("tokenizer.ggml.pre", "tiny")
      .add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "c"})
      .add("tokenizer.chat_template", "{{ messages }}")
      .tensor("token_embd.weight", {256, 3}, 12, 3 * 144)
      .tensor("output_norm.weight", {256}, 0, 1024);
  return writer;
}

class ScratchDir {
 public:
  ScratchDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "yoke-gguf-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  ~ScratchDir() { std::filesystem::remove_all(path_); }

  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace yoke::gguf
