// Store: what Yoke knows about its models and machine from one start to the next, in one SQLite
// file, state.db. Owned by the control loop; one thread at a time. Calls block for the moment a
// small write takes. An error of a call leaves the file as it was: Yoke goes on without it. Times
// are kept in milliseconds.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace yoke::store {

inline constexpr ErrorCode kStoreInUse{"state_in_use"};
inline constexpr ErrorCode kStoreFailed{"state_failed"};

using Time = std::chrono::system_clock::time_point;

// What a failure or a check of answers is true for: another file, engine or driver is another case.
struct Case {
  std::string model;    // Its name in the configuration.
  std::string file;     // engines::model_stamp
  std::string backend;  // "vulkan"
  std::string engine;   // "llama.cpp 0.5.0 (build 1, commit de3ff81)"
  std::string driver;   // engines::Candidate::driver
  friend bool operator==(const Case&, const Case&) = default;
};

// A backend that is left out for a model.
struct Quarantine {
  Case of;
  std::string failure;  // engines::name_of(FailureClass)
  std::string message;
  Time since{};
  Time until{};
  int count = 0;  // How often it has been.
};

struct FailureRecord {
  Case of;
  std::string failure;
  std::string message;
  std::string evidence;  // A line of the engine's log; may be empty.
  Time time{};
};

struct CheckRecord {
  Case of;
  bool agreed = false;
  double distance = 0;  // engines::Agreement
  Time time{};
};

class Store {
 public:
  // Makes the directory and the file where they are missing. kStoreInUse if another Yoke has it;
  // kStoreFailed. A file that is damaged is put aside, and said in `notes`.
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& dir,
                                             std::vector<std::string>& notes);
  // One without a file.
  static Result<std::unique_ptr<Store>> in_memory();
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  Result<void> put(const Quarantine& quarantine);  // In place of one for the same case.
  // Also those that are over, so that the count goes on; forgotten kForgetAfter after their end.
  Result<std::vector<Quarantine>> quarantines();
  // Of one model and backend, or of all where that is empty. How many there were.
  Result<std::size_t> clear_quarantines(std::string_view model, std::string_view backend);

  Result<void> add(const FailureRecord& failure);  // The oldest beyond kMaxFailures are forgotten.
  // Newest first.
  Result<std::vector<FailureRecord>> failures(std::string_view model, std::size_t limit);

  Result<void> put(const CheckRecord& check);
  Result<std::optional<CheckRecord>> check(const Case& of);

  // The CPU's answer for a model file, engines::to_text.
  Result<void> put_reference(std::string_view file, int prompt_tokens, std::string_view text);
  Result<std::optional<std::string>> reference(std::string_view file, int prompt_tokens);

  // In place of all that is in `other`.
  Result<void> copy_to(Store& other);

  static constexpr std::chrono::hours kForgetAfter{24 * 7};
  static constexpr std::size_t kMaxFailures = 1000;
  static constexpr std::size_t kMaxChecks = 1000;
  static constexpr std::size_t kMaxReferences = 200;

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace yoke::store
