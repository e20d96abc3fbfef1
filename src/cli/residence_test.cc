#include "cli/residence.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "cli/reload.h"

namespace yoke::cli {
namespace {

using namespace std::chrono_literals;

boost::json::value state(std::string_view name) {
  return *parse_json(fmt::format(R"({{"model":"chat","state":"{}"}})", name));
}

TEST(Residence, SaysHowFarALoadIs) {
  EXPECT_EQ(*format_loading(state("ready")), "chat is ready.");
  EXPECT_EQ(*format_loading(state("starting")), "chat is being loaded.");
  EXPECT_EQ(*format_loading(state("planned")), "chat is being loaded.");
}

TEST(Residence, SaysWhenAModelIsGone) {
  EXPECT_EQ(*format_unloaded(state("stopped")), "chat is not loaded any more.");
  EXPECT_EQ(*format_unloaded(state("draining")),
            "chat is being unloaded: it finishes its answers first.");
}

TEST(Residence, SaysWhatAPinDoes) {
  EXPECT_EQ(*format_pinned(state("ready"), false), "chat is pinned: it stays loaded.");
  EXPECT_EQ(*format_pinned(state("planned"), false),
            "chat is pinned: it is loaded as soon as it can be, and stays.");
  EXPECT_EQ(*format_pinned(state("ready"), true), "chat is no longer pinned.");
}

TEST(Residence, RefusesAnotherForm) {
  for (const char* reply : {"[]", "{}", R"({"model":1,"state":"ready"})", R"({"model":"chat"})"}) {
    EXPECT_FALSE(format_loading(*parse_json(reply))) << reply;
    EXPECT_FALSE(format_unloaded(*parse_json(reply))) << reply;
    EXPECT_FALSE(format_pinned(*parse_json(reply), false)) << reply;
  }
}

TEST(Residence, ShowsWhatALoadWaitsFor) {
  const auto instances = *parse_json(
      R"({"instances":[{"model":"big","next":"x"},{"model":"chat","next":"waits for big to finish"},
          {"model":"idle","next":""}]})");
  EXPECT_EQ(loading_line(instances, "chat", 12'300ms),
            "Loading chat, 12 s: waits for big to finish");
  EXPECT_EQ(loading_line(instances, "idle", 1s), "Loading idle, 1 s");
  EXPECT_EQ(loading_line(instances, "idle", 80s), "Loading idle, 1 min 20 s");
  EXPECT_EQ(loading_line(nullptr, "chat", 1s), "Loading chat, 1 s");
  EXPECT_EQ(loading_line(*parse_json("[1]"), "chat", 1s), "Loading chat, 1 s");
}

TEST(Reload, SaysWhatChanged) {
  const auto reply = *parse_json(
      R"({"added":["a","b"],"removed":["c"],"restarted":["d"],"changed":["e\u001b[31m"],
          "needs_restart":["listen"]})");
  EXPECT_EQ(*format_reload(reply),
            "New: a, b.\n"
            "Gone: c.\n"
            "Loaded again with other options, once nothing is being answered: d.\n"
            "Run on with other settings: e.\n"
            "Only a restart of `yoke serve` takes over: listen.\n");
}

TEST(Reload, SaysThatNothingDid) {
  EXPECT_EQ(*format_reload(*parse_json(R"({"added":[],"removed":[]})")), "Nothing changed.\n");
}

TEST(Reload, RefusesAnotherForm) {
  for (const char* reply : {"[]", R"({"added":1})", R"({"added":[1]})"}) {
    EXPECT_FALSE(format_reload(*parse_json(reply))) << reply;
  }
}

}  // namespace
}  // namespace yoke::cli
