#include "supervisor/history.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace yoke::supervisor {

using store::Store;

Result<std::unique_ptr<History>> History::open(const std::filesystem::path& state_dir) {
  YOKE_TRY(auto memory, Store::in_memory());
  std::vector<std::string> notes;
  auto file = Store::open(state_dir, notes);
  for (const std::string& note : notes) log::warning("{}", note);
  if (!file && file.error().code == store::kStoreInUse) return fail(std::move(file.error()));
  const Result<void> copied = file ? (*file)->copy_to(*memory) : fail(file.error());
  std::unique_ptr<History> history(
      new History(file ? std::move(*file) : nullptr, std::move(memory)));
  history->written(copied);
  return history;
}

History::History(std::unique_ptr<Store> file, std::unique_ptr<Store> memory)
    : file_(std::move(file)), memory_(std::move(memory)) {}
History::~History() = default;

// One warning until a write succeeds again.
void History::written(const Result<void>& result) {
  if (!result && !warned_) {
    log::warning("Failures and quarantines are remembered only until Yoke ends. {}",
                 result.error().text());
  }
  warned_ = !result;
}

template <class Write>
void History::write(const Write& to) {
  // Nothing that is in memory can fail but for want of memory.
  if (const auto kept = to(*memory_); !kept) log::warning("{}", kept.error().text());
  if (file_) written(to(*file_));
}

void History::put(const store::Quarantine& quarantine) {
  write([&](Store& store) { return store.put(quarantine); });
}

void History::add(const store::FailureRecord& failure) {
  write([&](Store& store) { return store.add(failure); });
}

void History::put(const store::CheckRecord& check) {
  write([&](Store& store) { return store.put(check); });
}

void History::put_reference(std::string_view file, int prompt_tokens, std::string_view text) {
  write([&](Store& store) { return store.put_reference(file, prompt_tokens, text); });
}

std::optional<store::Quarantine> History::quarantine(const store::Case& of) {
  const auto all = memory_->quarantines();
  if (!all) return std::nullopt;
  const auto found = std::ranges::find(*all, of, &store::Quarantine::of);
  if (found == all->end()) return std::nullopt;
  return *found;
}

std::vector<store::Quarantine> History::quarantines(store::Time now) {
  auto all = memory_->quarantines().value_or(std::vector<store::Quarantine>());
  std::erase_if(all, [now](const store::Quarantine& one) { return one.until <= now; });
  return all;
}

std::size_t History::clear(std::string_view model, std::string_view backend) {
  const auto held = quarantines(std::chrono::system_clock::now());
  const auto cleared = std::ranges::count_if(held, [&](const store::Quarantine& one) {
    return (model.empty() || one.of.model == model) &&
           (backend.empty() || one.of.backend == backend);
  });
  write([&](Store& store) -> Result<void> {
    YOKE_CHECK(store.clear_quarantines(model, backend));
    return {};
  });
  return static_cast<std::size_t>(cleared);
}

std::vector<store::FailureRecord> History::failures(std::string_view model, std::size_t limit) {
  return memory_->failures(model, limit).value_or(std::vector<store::FailureRecord>());
}

std::optional<store::CheckRecord> History::check(const store::Case& of) {
  return memory_->check(of).value_or(std::nullopt);
}

std::optional<std::string> History::reference(std::string_view file, int prompt_tokens) {
  return memory_->reference(file, prompt_tokens).value_or(std::nullopt);
}

}  // namespace yoke::supervisor
