#include "base/json_fields.h"

#include <gtest/gtest.h>

namespace yoke {
namespace {

TEST(ParseJson, RefusesGarbageAndDeepNesting) {
  EXPECT_EQ(parse_json("{").error().code, kInvalidJson);
  EXPECT_FALSE(parse_json(""));
  EXPECT_FALSE(parse_json("{} x"));
  EXPECT_FALSE(parse_json(std::string(100, '[') + std::string(100, ']')));
}

TEST(JsonFields, ReadsByNameAndPassesOverTheUnknown) {
  const auto value = parse_json(R"({"name":"a","n":3,"f":1.5,"on":true,"more":[1]})").value();
  const auto fields = JsonFields::of(value).value();
  EXPECT_EQ(fields.string("name"), "a");
  EXPECT_EQ(fields.integer("n"), 3);
  EXPECT_EQ(fields.number("f"), 1.5);
  EXPECT_EQ(fields.boolean("on"), true);
  EXPECT_EQ(fields.string_or("absent", "b"), "b");
}

TEST(JsonFields, NamesThePathOfAWrongField) {
  const auto value = parse_json(R"({"models":[{"ctx":1},{"ctx":"x"}],"null":null})").value();
  const auto fields = JsonFields::of(value).value();
  const auto models = fields.objects("models").value();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].integer("ctx"), 1);
  EXPECT_EQ(models[1].integer("ctx").error().message, "models[1].ctx: expected an integer.");
  EXPECT_EQ(models[1].string("id").error().message, "models[1].id: is missing.");
  EXPECT_FALSE(fields.has("null"));
  EXPECT_EQ(fields.object("models").error().message, "models: expected an object.");
}

}  // namespace
}  // namespace yoke
