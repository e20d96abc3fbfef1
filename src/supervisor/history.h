// History: what is known from earlier starts, as the control loop asks for it. It never fails:
// where the store can't be read or written, one warning says so and the rest of this life is
// remembered in memory. Owned by the control loop; all calls on its thread.
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
#include "store/store.h"

namespace yoke::supervisor {

class History {
 public:
  // kStoreInUse: two servers would take the GPU's memory from each other. No other state of the
  // disk is an error.
  static Result<std::unique_ptr<History>> open(const std::filesystem::path& state_dir);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  // Also one that is over, for its count.
  std::optional<store::Quarantine> quarantine(const store::Case& of);
  // Those that are not over, by model and backend; also of engines, drivers and models that are not
  // there any more, which hold for nothing.
  std::vector<store::Quarantine> quarantines(store::Time now);
  void put(const store::Quarantine& quarantine);
  // Of one model and backend, or of all where that is empty. How many there were that had not
  // ended.
  std::size_t clear(std::string_view model, std::string_view backend);

  void add(const store::FailureRecord& failure);
  // Newest first.
  std::vector<store::FailureRecord> failures(std::string_view model, std::size_t limit);

  std::optional<store::CheckRecord> check(const store::Case& of);
  void put(const store::CheckRecord& check);

  // The CPU's answer for a model file (engines::model_stamp), engines::to_text.
  std::optional<std::string> reference(std::string_view file, int prompt_tokens);
  void put_reference(std::string_view file, int prompt_tokens, std::string_view text);

 private:
  explicit History(std::unique_ptr<store::Store> file, std::unique_ptr<store::Store> memory);
  void written(const Result<void>& result);
  template <class Write>
  void write(const Write& to);

  std::unique_ptr<store::Store> file_;    // Null if it could not be opened.
  std::unique_ptr<store::Store> memory_;  // The same in memory, which all reads are of.
  bool warned_ = false;                   // The last write failed.
};

}  // namespace yoke::supervisor
