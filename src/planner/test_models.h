// Headers of models in their true size, for tests. One thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gguf/model.h"

namespace yoke::planner {

inline constexpr std::uint32_t kF32 = 0;
inline constexpr std::uint32_t kQ8 = 8;
inline constexpr std::uint32_t kQ2K = 10;
inline constexpr std::uint32_t kQ4K = 12;
inline constexpr std::uint32_t kQ6K = 14;

class TestModel {
 public:
  explicit TestModel(std::string architecture) : architecture_(std::move(architecture)) {
    add("general.architecture", gguf::ValueType::kString, architecture_);
  }

  TestModel& key(const std::string& name, std::uint64_t value) {
    return add(architecture_ + "." + name, gguf::ValueType::kUint32, value);
  }
  TestModel& number(const std::string& name, double value) {
    return add(architecture_ + "." + name, gguf::ValueType::kFloat32, value);
  }
  TestModel& flag(const std::string& name) {
    return add(architecture_ + "." + name, gguf::ValueType::kBool, true);
  }
  TestModel& tensor(std::string name, std::array<std::uint64_t, 3> dims, std::uint32_t type);
  const gguf::Model& model() const { return model_; }

 private:
  template <class T>
  TestModel& add(const std::string& name, gguf::ValueType type, T value) {
    model_.metadata.add(name, gguf::Value{type, gguf::Scalar(value)});
    return *this;
  }

  std::string architecture_;
  gguf::Model model_;
};

struct Dense {
  std::string architecture = "llama";
  std::uint64_t layers = 32;
  std::uint64_t width = 4096;
  std::uint64_t heads = 32;
  std::uint64_t kv_heads = 8;
  std::uint64_t head = 128;
  std::uint64_t feed = 14336;
  std::uint64_t vocabulary = 128256;
  std::uint64_t experts = 0;  // Of `feed` each.
  bool head_norms = false;
  bool tied = false;
  std::uint64_t window = 0;
};

TestModel dense_model(const Dense& d);
TestModel llama_8b();
TestModel qwen3_30b_a3b();
TestModel gemma3_12b();
TestModel kimi_k2();  // Multi-head latent attention, 384 experts and a shared one.
TestModel mamba2_2_7b();

}  // namespace yoke::planner
