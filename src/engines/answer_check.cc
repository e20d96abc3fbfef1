#include "engines/answer_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "base/json_fields.h"
#include "base/json_text.h"
#include "engines/capabilities.h"

namespace yoke::engines {
namespace {

// How much of the prompt lies in its second batch.
constexpr int kBeyondBatch = 32;
// Room for the answer, and for what an engine may need besides.
constexpr int kAnswerRoom = 16;
constexpr int kMinPrompt = 48;
// What every chat model was trained for at least, where the context is left to the model.
constexpr int kLeastTrainedContext = 2048;
constexpr int kUsualBatch = 2048;

// Right answers of other batch sizes, KV types and backends were up to 0.10 away, 0.45 with a KV
// cache of 4 bits; those of a lost batch 0.97 and more (docs/answer-check.md).
constexpr double kMaxDistance = 0.5;

// The prompt's last tokens are those from kRepeatFrom on: within the first sentence.
constexpr std::size_t kRepeatFrom = 4;
constexpr std::size_t kRepeated = 12;

constexpr std::size_t kMaxPositions = 64;
constexpr std::size_t kMaxLikeliest = 256;
constexpr int kMaxPromptTokens = 1 << 24;

constexpr std::array<std::string_view, 17> kPlaces{
    "At the harbour of a small island",
    "In the third room of the museum",
    "On the night train to the coast",
    "Under the old stone bridge",
    "In a kitchen that smelled of bread",
    "Behind the counter of the post office",
    "High above the tree line",
    "In the basement of the town hall",
    "On the first page of the notebook",
    "Near the northern gate of the zoo",
    "During a lesson about planets",
    "In the queue for the last ferry",
    "At a market full of oranges",
    "Between two rows of apple trees",
    "In the workshop where clocks are repaired",
    "At the foot of a sleeping volcano",
    "On the roof of the library",
};

constexpr std::array<std::string_view, 13> kPeople{
    "a retired captain",
    "the youngest of the nurses",
    "my neighbour's daughter",
    "a man who collected maps",
    "the new geography teacher",
    "two brothers from the mountains",
    "a carpenter with a green hat",
    "the queen's translator",
    "an engineer on holiday",
    "the whole choir",
    "a baker without flour",
    "the only witness",
    "a student of medicine",
};

constexpr std::array<std::string_view, 19> kDeeds{
    "counted forty white sails before noon",
    "explained why water boils sooner on a mountain",
    "lost a silver key and found a letter instead",
    "asked how many days there are in a leap year",
    "drew a triangle and measured its three angles",
    "sold eleven blankets to a family of five",
    "wrote down the names of all the rivers in France",
    "heard thunder although the sky was clear",
    "repaired a radio with a piece of copper wire",
    "planted beans, onions and one rose",
    "promised to come back on the second Sunday of May",
    "read aloud the recipe for a soup of lentils",
    "compared the price of coal with that of wood",
    "taught a parrot to say good morning in Spanish",
    "waited for the doctor until half past nine",
    "divided the cake into seven equal parts",
    "described a comet that nobody else had seen",
    "borrowed a bicycle and returned it with a new bell",
    "won a game of chess in nineteen moves",
};

constexpr std::array<std::string_view, 11> kRemarks{
    "which surprised nobody who knew the place.",
    "and the answer was written in red ink on the wall.",
    "because the winter had been longer than usual.",
    "but the newspaper did not mention it.",
    "so the meeting was moved to Thursday.",
    "while it rained on the fields outside.",
    "and everybody agreed that this was fair.",
    "although the sign said that this was forbidden.",
    "which is how the story got its title.",
    "and then the lights went out.",
    "long before there was a road to the village.",
};

// Each combination comes once in 46,189 sentences: the lists' lengths have no common divisor.
std::string sentence(std::size_t number) {
  return fmt::format("{}. {}, {} {}, {}\n", number + 1, kPlaces[number % kPlaces.size()],
                     kPeople[number % kPeople.size()], kDeeds[number % kDeeds.size()],
                     kRemarks[number % kRemarks.size()]);
}

int words_of(std::string_view text) {
  return static_cast<int>(std::count(text.begin(), text.end(), ' ')) + 1;
}

// 0 for one that is not among the likeliest.
double probability_of(const Position& position, std::int64_t token) {
  const auto found = std::find_if(position.likeliest.begin(), position.likeliest.end(),
                                  [&](const TokenOdds& odds) { return odds.token == token; });
  return found == position.likeliest.end() ? 0 : found->probability;
}

double sum_of(const Position& position) {
  double sum = 0;
  for (const TokenOdds& odds : position.likeliest) sum += odds.probability;
  return sum;
}

// Total variation: the tokens that neither names count as one. What computes nothing (NaN) is as
// far away as can be, also from its like.
double distance_of(const Position& a, const Position& b) {
  if (sum_of(a) <= 0 || sum_of(b) <= 0) return 1;
  double difference = std::abs(sum_of(a) - sum_of(b));
  for (const TokenOdds& odds : a.likeliest) {
    difference += std::abs(odds.probability - probability_of(b, odds.token));
  }
  for (const TokenOdds& odds : b.likeliest) {
    const bool counted = std::any_of(a.likeliest.begin(), a.likeliest.end(),
                                     [&](const TokenOdds& at) { return at.token == odds.token; });
    if (!counted) difference += odds.probability;
  }
  return std::min(1.0, difference / 2);
}

Result<void> check_count(std::size_t count, std::size_t most, std::string_view of_what) {
  if (count >= 1 && count <= most) return {};
  return fail(kInvalidJson, fmt::format("It has {} {}, not 1 to {}.", count, of_what, most));
}

// llama-server writes null for the logarithm of a NaN, which a broken computation gives.
Result<double> probability(const JsonFields& fields) {
  if (!fields.has("logprob")) return 0.0;
  YOKE_TRY(const double logarithm, fields.number("logprob"));
  return std::clamp(std::exp(logarithm), 0.0, 1.0);
}

Result<Position> parse_position(const JsonFields& fields) {
  Position position;
  YOKE_TRY(position.taken, fields.integer("id"));
  YOKE_TRY(const auto likeliest, fields.objects("top_logprobs"));
  YOKE_CHECK(check_count(likeliest.size(), kMaxLikeliest, "likeliest tokens"));
  for (const JsonFields& entry : likeliest) {
    TokenOdds odds;
    YOKE_TRY(odds.token, entry.integer("id"));
    YOKE_TRY(odds.probability, probability(entry));
    position.likeliest.push_back(odds);
  }
  return position;
}

Result<Position> stored_position(const JsonFields& fields) {
  Position position;
  YOKE_TRY(position.taken, fields.integer("taken"));
  YOKE_TRY(const auto likeliest, fields.objects("likeliest"));
  YOKE_CHECK(check_count(likeliest.size(), kMaxLikeliest, "likeliest tokens"));
  for (const JsonFields& entry : likeliest) {
    TokenOdds odds;
    YOKE_TRY(odds.token, entry.integer("token"));
    YOKE_TRY(odds.probability, entry.number("probability"));
    if (!(odds.probability >= 0 && odds.probability <= 1)) {
      return fail(kInvalidJson, "A probability is not between 0 and 1.");
    }
    position.likeliest.push_back(odds);
  }
  return position;
}

template <class Read>
Result<std::vector<Position>> positions_of(const std::vector<JsonFields>& list, Read read) {
  YOKE_CHECK(check_count(list.size(), kMaxPositions, "positions"));
  std::vector<Position> positions;
  for (const JsonFields& fields : list) {
    YOKE_TRY(auto position, read(fields));
    positions.push_back(std::move(position));
  }
  return positions;
}

Result<std::vector<Position>> parse_positions(std::string_view reply) {
  YOKE_TRY(const auto document, parse_json(reply));
  YOKE_TRY(const auto fields, JsonFields::of(document));
  YOKE_TRY(const auto list, fields.objects("completion_probabilities"));
  return positions_of(list, parse_position);
}

}  // namespace

int check_prompt_tokens(const config::LoadOptions& options) {
  if (options.server_type != config::ServerType::kLlm) return 0;
  const int batch = options.n_batch > 0 ? options.n_batch : kUsualBatch;
  const int ubatch = options.n_ubatch > 0 ? std::min(options.n_ubatch, batch) : batch;
  const int context = options.n_ctx > 0 ? options.n_ctx : kLeastTrainedContext;
  const int slot = context / std::max(options.parallel, 1);
  const int tokens = std::min(ubatch, slot - kAnswerRoom - kBeyondBatch) + kBeyondBatch;
  return tokens < kMinPrompt ? 0 : tokens;
}

std::string check_text(int tokens) {
  std::string text;
  int words = 0;
  for (std::size_t number = 0; words < tokens; ++number) {
    const std::string next = sentence(number);
    words += words_of(next);
    text += next;
  }
  return text;
}

std::vector<std::int64_t> check_prompt(std::span<const std::int64_t> text, int count) {
  const auto size = static_cast<std::size_t>(count);
  const auto body = text.first(size - kRepeated);
  const auto repeated = text.subspan(kRepeatFrom, kRepeated);
  std::vector<std::int64_t> prompt(body.begin(), body.end());
  prompt.insert(prompt.end(), repeated.begin(), repeated.end());
  return prompt;
}

Agreement compare(const FirstTokens& reference, const FirstTokens& answer) {
  const std::size_t both = std::min(reference.positions.size(), answer.positions.size());
  Agreement agreement;
  std::size_t worst = 0;
  std::size_t compared = 0;
  bool same_so_far = true;  // Behind another token they answer another text.
  for (; compared < both && same_so_far; ++compared) {
    const Position& wanted = reference.positions[compared];
    const Position& given = answer.positions[compared];
    const double distance = distance_of(wanted, given);
    if (distance > agreement.distance) worst = compared;
    agreement.distance = std::max(agreement.distance, distance);
    same_so_far = wanted.taken == given.taken;
  }
  if (compared == 0) agreement.distance = 1;
  agreement.agrees = agreement.distance <= kMaxDistance;
  agreement.why = fmt::format(
      "After a prompt of {} tokens the probabilities of token {} are {:.3f} away from the CPU's "
      "(0: the same, 1: nothing in common; more than {} is wrong).",
      answer.prompt_tokens, worst + 1, agreement.distance, kMaxDistance);
  return agreement;
}

Result<FirstTokens> parse_first_tokens(std::string_view reply, int prompt_tokens) {
  auto positions = parse_positions(reply);
  if (!positions) {
    return fail(kEngineUnusable, fmt::format("The engine's answer to the check is of no use. {}",
                                             positions.error().message));
  }
  return FirstTokens{prompt_tokens, std::move(*positions)};
}

std::string to_text(const FirstTokens& tokens) {
  boost::json::array positions;
  for (const Position& position : tokens.positions) {
    boost::json::array likeliest;
    for (const TokenOdds& odds : position.likeliest) {
      likeliest.push_back({{"token", odds.token}, {"probability", odds.probability}});
    }
    positions.push_back({{"taken", position.taken}, {"likeliest", std::move(likeliest)}});
  }
  return json_text({{"prompt_tokens", tokens.prompt_tokens}, {"positions", std::move(positions)}});
}

Result<FirstTokens> first_tokens_of(std::string_view text) {
  YOKE_TRY(const auto document, parse_json(text));
  YOKE_TRY(const auto fields, JsonFields::of(document));
  YOKE_TRY(const std::int64_t prompt_tokens, fields.integer("prompt_tokens"));
  if (prompt_tokens < 1 || prompt_tokens > kMaxPromptTokens) {
    return fail(kInvalidJson, "prompt_tokens is out of range.");
  }
  YOKE_TRY(const auto list, fields.objects("positions"));
  YOKE_TRY(auto positions, positions_of(list, stored_position));
  return FirstTokens{static_cast<int>(prompt_tokens), std::move(positions)};
}

}  // namespace yoke::engines
