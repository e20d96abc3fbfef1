// Explanation: why a model runs as it does. Plain values; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engines/backend_choice.h"
#include "engines/decisions.h"
#include "store/store.h"

namespace yoke::supervisor {

struct Explanation {
  struct Candidate {
    std::string backend;
    std::string engine;                           // "llama.cpp 0.5.0 (build 1, commit de3ff81)"
    std::string driver;                           // "" for the CPU.
    bool current = false;                         // It is the one that runs, or is started next.
    std::optional<store::Quarantine> quarantine;  // If it is left out now.
    std::optional<store::CheckRecord> check;      // If its answers were compared.
  };

  std::string model;
  std::string file;                   // The path.
  std::string state;                  // name_of(InstanceState)
  std::string order;                  // What the order of the candidates is by: one sentence.
  std::vector<Candidate> candidates;  // In the order in which they are tried.
  std::vector<engines::RuledOut> ruled_out;
  std::vector<engines::Decision> decisions;    // For the current candidate.
  std::vector<std::string> notes;              // Options that were left out, and why.
  std::vector<std::string> command;            // Of the current candidate; no secret is in it.
  std::vector<store::FailureRecord> failures;  // Newest first, 20 at most.
  // For a model of vLLM that is too big for this machine: one command per machine.
  std::vector<std::string> multi_node;
};

}  // namespace yoke::supervisor
