#include "gateway/admin.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"
#include "gateway/api_error.h"

namespace yoke::gateway {
namespace {

using namespace std::chrono_literals;
using scheduler::NextAction;
using scheduler::State;
using supervisor::InstanceState;

TEST(ReadCommand, TakesAModel) {
  const auto request = read_command(R"({"model": "chat", "wait": true, "other": 1})");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->model, "chat");
  EXPECT_TRUE(request->wait);
  EXPECT_FALSE(read_command(R"({"model": "chat"})")->wait);
  EXPECT_FALSE(read_command(R"({"model": "chat", "wait": null})")->wait);
}

TEST(ReadCommand, WantsOne) {
  for (const char* body : {"{}", R"({"model": ""})", R"({"model": null})", R"({"wait": true})"}) {
    EXPECT_EQ(read_command(body).error().code, kModelRequired) << body;
  }
}

TEST(ReadCommand, RefusesWhatIsNoCommand) {
  for (const char* body : {"", "hello", "[]", R"(["chat"])", R"({"model": 1})",
                           R"({"model": "chat", "wait": "yes"})", R"({"model": "chat")"}) {
    EXPECT_EQ(read_command(body).error().code, kInvalidJson) << body;
  }
}

TEST(CommandAt, KnowsItsPaths) {
  EXPECT_EQ(command_at("/yoke/v1/load"), Command::kLoad);
  EXPECT_EQ(command_at("/yoke/v1/unload"), Command::kUnload);
  EXPECT_EQ(command_at("/yoke/v1/pin"), Command::kPin);
  EXPECT_EQ(command_at("/yoke/v1/unpin"), Command::kUnpin);
  EXPECT_EQ(command_at("/yoke/v1/reload"), std::nullopt);
  EXPECT_EQ(command_at("/yoke/v1/load/"), std::nullopt);
}

TEST(ReloadJson, NamesWhatChanged) {
  const ReloadReport report{{{"new"}, {"old"}, {}, {"a", "b"}}, {"listen"}};
  EXPECT_EQ(reload_json(report),
            R"({"added":["new"],"removed":["old"],"restarted":[],"changed":["a","b"],)"
            R"("needs_restart":["listen"]})");
}

class InstancesJson : public testing::Test {
 protected:
  void add(std::string model, State state) {
    supervisor::Route route;
    route.model = model;
    route.state = state == State::kReady ? InstanceState::kReady : InstanceState::kStopped;
    route.since = now_ - 90s;
    route.n_ctx = 8192;
    route.planned_bytes = 1500;
    if (state == State::kReady) route.held_bytes = 1400;
    table_.routes.push_back(route);
    scheduler::ModelStatus status;
    status.name = std::move(model);
    status.state = state;
    residency_.models.push_back(std::move(status));
  }

  scheduler::ModelStatus& last() { return residency_.models.back(); }

  // The only instance.
  JsonFields read() {
    residency_.now = now_;
    text_ = instances_json(table_, residency_);
    document_ = parse_json(text_).value();
    return JsonFields::of(document_).value().objects("instances").value().at(0);
  }

  const std::chrono::steady_clock::time_point now_ = std::chrono::steady_clock::now();
  supervisor::RouteTable table_;
  supervisor::Residency residency_;
  std::string text_;
  boost::json::value document_;
};

TEST_F(InstancesJson, SaysWhatAModelHoldsAndWhatComesNext) {
  add("chat", State::kReady);
  last().pinned = true;
  last().waiting = 3;
  last().last_used = now_ - 12s;
  last().load_time = 800ms;
  last().next = {NextAction::Kind::kUnloads, now_ + 200s};
  const JsonFields chat = read();
  EXPECT_EQ(chat.string("model"), "chat");
  EXPECT_EQ(chat.string("state"), "ready");
  EXPECT_EQ(chat.boolean("pinned"), true);
  EXPECT_EQ(chat.integer("planned_bytes"), 1500);
  EXPECT_EQ(chat.integer("memory_bytes"), 1400);
  EXPECT_EQ(chat.integer("n_ctx"), 8192);
  EXPECT_EQ(chat.integer("waiting"), 3);
  EXPECT_DOUBLE_EQ(chat.number("last_used_s").value(), 12);
  EXPECT_DOUBLE_EQ(chat.number("uptime_s").value(), 90);
  EXPECT_DOUBLE_EQ(chat.number("load_time_s").value(), 0.8);
  EXPECT_EQ(chat.string("next").value(), "unloads in 3 min 20 s");
  EXPECT_FALSE(chat.has("error"));
}

TEST_F(InstancesJson, OneThatIsNotLoadedHoldsNothing) {
  add("chat", State::kUnloaded);
  const JsonFields chat = read();
  EXPECT_EQ(chat.integer("planned_bytes"), 1500);
  EXPECT_FALSE(chat.has("memory_bytes"));
  EXPECT_FALSE(chat.has("last_used_s"));
  EXPECT_EQ(chat.string("next").value(), "");
}

TEST_F(InstancesJson, WhatIsOnlyPlannedIsNotMeasured) {
  add("chat", State::kReady);
  table_.routes.back().held_bytes = 0;
  EXPECT_FALSE(read().has("memory_bytes"));
}

TEST_F(InstancesJson, SaysWhyItFailed) {
  add("chat", State::kUnloaded);
  table_.routes.back().error = Error{kEngineError, "It broke.", "Mend it."};
  const JsonFields chat = read();
  EXPECT_EQ(chat.object("error")->string("code"), "engine_error");
  EXPECT_EQ(chat.object("error")->string("message"), "It broke. Mend it.");
}

TEST_F(InstancesJson, SaysWhyItCantBeLoaded) {
  add("chat", State::kUnloaded);
  table_.routes.back().error = Error{kEngineError, "It broke."};
  last().error = Error{scheduler::kModelTooLarge, "It lacks memory."};
  EXPECT_EQ(read().object("error")->string("code").value(), "model_too_large");
  last().state = State::kStarting;
  EXPECT_EQ(read().object("error")->string("code").value(), "engine_error");
}

TEST_F(InstancesJson, AModelThatAReloadJustBroughtIsThere) {
  add("chat", State::kReady);
  residency_.models.clear();
  const JsonFields chat = read();
  EXPECT_EQ(chat.boolean("pinned"), false);
  EXPECT_EQ(chat.string("next").value(), "");
}

TEST_F(InstancesJson, ListsTheMemory) {
  residency_.pools = {{0, "system memory", 100, 40, 7}};
  residency_.now = now_;
  const std::string text = instances_json(table_, residency_);
  EXPECT_TRUE(text.ends_with(R"("instances":[],"memory":[{"name":"system memory","budget":100,)"
                             R"("used":40,"promised":7}]})"))
      << text;
}

}  // namespace
}  // namespace yoke::gateway
