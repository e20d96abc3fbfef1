#include "cli/chat_input.h"

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using Kind = ChatCommand::Kind;

TEST(ChatCommand, TakesNameAndArgument) {
  const auto set = parse_chat_command("/set   temperature 0.7 ");
  ASSERT_TRUE(set);
  EXPECT_EQ(set->kind, Kind::kSet);
  EXPECT_EQ(set->argument, "temperature 0.7");
  EXPECT_EQ(parse_chat_command("/system")->argument, "");
  EXPECT_EQ(parse_chat_command("/exit")->kind, Kind::kExit);
}

TEST(ChatCommand, RefusesWhatItDoesNotKnow) {
  const auto typo = parse_chat_command("/claer");
  ASSERT_FALSE(typo);
  EXPECT_TRUE(typo.error().hint.starts_with("Did you mean /clear? ")) << typo.error().hint;
  EXPECT_FALSE(parse_chat_command("/etc/passwd"));
  EXPECT_FALSE(parse_chat_command("/save"));
  EXPECT_FALSE(parse_chat_command("/clear all"));
}

TEST(MessageCollector, ALineIsAMessage) {
  MessageCollector collector;
  EXPECT_EQ(collector.add_line("hello"), "hello");
  EXPECT_EQ(collector.add_line(" /not a command"), " /not a command");
  EXPECT_EQ(collector.add_line("say \"\"\""), "say \"\"\"");
  EXPECT_FALSE(collector.open());
}

TEST(MessageCollector, QuotesHoldSeveralLines) {
  MessageCollector collector;
  EXPECT_EQ(collector.add_line(R"("""one)"), std::nullopt);
  EXPECT_TRUE(collector.open());
  EXPECT_EQ(collector.add_line(""), std::nullopt);
  EXPECT_EQ(collector.add_line(R"(/two""")"), "one\n\n/two");
  EXPECT_FALSE(collector.open());
}

TEST(MessageCollector, QuotesMayStandAlone) {
  MessageCollector collector;
  EXPECT_EQ(collector.add_line(R"(""")"), std::nullopt);
  EXPECT_EQ(collector.add_line("one"), std::nullopt);
  EXPECT_EQ(collector.add_line("two"), std::nullopt);
  EXPECT_EQ(collector.add_line(R"(""")"), "one\ntwo");
  EXPECT_EQ(collector.add_line(R"("""one line""")"), "one line");
}

TEST(MessageCollector, DropsWhatWasBegun) {
  MessageCollector collector;
  EXPECT_EQ(collector.add_line(R"("""one)"), std::nullopt);
  collector.drop();
  EXPECT_EQ(collector.add_line("two"), "two");
}

}  // namespace
}  // namespace yoke::cli
