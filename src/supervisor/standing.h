// Standing: how the engines that a model may run with have done so far, now and in earlier starts
// of Yoke, and which is therefore the next. Owned by the instance; on its thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"
#include "supervisor/engine_start.h"
#include "supervisor/fallback_policy.h"
#include "supervisor/history.h"

namespace yoke::supervisor {

class Standing {
 public:
  // `engines`: best first; it and `history` must outlive this.
  Standing(std::string model, const std::vector<Engine>& engines, History& history);

  // Takes over what is known of this model file (engines::model_stamp), if it is another one than
  // at the last call. Before each start.
  void look_at(const std::string& file);

  // The engine to start next.
  std::size_t current() const;
  // It is to be started with small batches, because its device was lost with the usual ones.
  bool smaller(std::size_t engine) const { return policy_.smaller(engine); }
  // For how long it is left out; 0 if it isn't.
  std::chrono::milliseconds left_out_for(std::size_t engine) const;

  // One life of it ended: writes that down, and says what is next.
  FallbackDecision after(std::size_t engine, const Ending& ending, const std::string& message,
                         const std::string& evidence);
  // As if the engines with this backend had never failed; all of them if it is empty. The history
  // is the caller's to clear.
  void clear(std::string_view backend);

  store::Case of(std::size_t engine) const;

 private:
  const std::string model_;
  const std::vector<Engine>& engines_;
  History& history_;
  std::string file_;
  FallbackPolicy policy_;
};

}  // namespace yoke::supervisor
