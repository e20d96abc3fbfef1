#include "models/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::models {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

HubReference hub(std::string_view text) {
  const auto reference = parse_reference(text);
  EXPECT_TRUE(reference) << text;
  if (!reference || !std::holds_alternative<HubReference>(*reference)) return {};
  return std::get<HubReference>(*reference);
}

TEST(Reference, OfAHub) {
  const HubReference plain = hub("hf:unsloth/Kimi-K2.5-GGUF");
  EXPECT_EQ(plain.repository, "unsloth/Kimi-K2.5-GGUF");
  EXPECT_EQ(plain.revision, "main");
  EXPECT_EQ(plain.choice, "");
  EXPECT_EQ(hub("hf:a/b:UD-Q2_K_XL").choice, "UD-Q2_K_XL");
  EXPECT_EQ(hub("hf:a/b:dir/file.gguf").choice, "dir/file.gguf");
  EXPECT_EQ(hub("hf://a/b:Q4_0").repository, "a/b");
}

TEST(Reference, ARevisionStandsOnEitherSide) {
  for (const char* const text : {"hf:a/b@refs/pr/3:Q4_0", "hf:a/b:Q4_0@refs/pr/3"}) {
    EXPECT_EQ(hub(text).revision, "refs/pr/3") << text;
    EXPECT_EQ(hub(text).choice, "Q4_0") << text;
  }
  EXPECT_EQ(hub("hf:a/b@v1").revision, "v1");
}

TEST(Reference, OfAnAddress) {
  const auto reference = parse_reference("https://me:secret@host:8443/a/b%20c.gguf?key=hidden#x");
  ASSERT_TRUE(reference);
  ASSERT_TRUE(std::holds_alternative<UrlReference>(*reference));
  EXPECT_EQ(to_text(*reference), "https://host:8443/a/b%20c.gguf");
}

TEST(Reference, ErrorsHoldNoSecrets) {
  const auto reference = parse_reference("https://me:secret@host/?key=hidden");
  ASSERT_FALSE(reference);
  EXPECT_EQ(reference.error().code, kInvalidArgument);
  EXPECT_THAT(reference.error().text(), Not(HasSubstr("secret")));
  EXPECT_THAT(reference.error().text(), Not(HasSubstr("hidden")));
}

TEST(Reference, OfAFile) {
  for (const char* const text : {"file:/a/b.gguf", "file:///a/b.gguf", "/a/b.gguf"}) {
    const auto reference = parse_reference(text);
    ASSERT_TRUE(reference) << text;
    EXPECT_EQ(std::get<FileReference>(*reference).path, "/a/b.gguf") << text;
  }
}

TEST(Reference, WhatIsNone) {
  for (const std::string text : {"", "hf:", "hf:a", "hf:/b", "hf:a/", "hf:a/b/c", "hf:a/b:",
                                 "hf:a/b@", "hf:a/b@x..y", "hf:../b", "hf:a/..", "hf:a b/c",
                                 "https://", "https://host", "https://host/", "file:", "a\nb"}) {
    const auto reference = parse_reference(text);
    ASSERT_FALSE(reference) << text;
    EXPECT_EQ(reference.error().code, kInvalidArgument);
    EXPECT_THAT(reference.error().hint, HasSubstr("hf:ORG/REPOSITORY"));
  }
  EXPECT_FALSE(parse_reference(std::string(5000, 'a')));
}

TEST(Reference, TextAndBack) {
  for (const char* const text :
       {"hf:a/b", "hf:a/b:Q4_0", "hf:a/b@v1", "hf:a/b@v1:dir/f.gguf", "file:/x.gguf"}) {
    const auto reference = parse_reference(text);
    ASSERT_TRUE(reference);
    EXPECT_EQ(to_text(*reference), text);
  }
}

TEST(Reference, IsOneByItsScheme) {
  EXPECT_TRUE(is_reference("hf:a/b"));
  EXPECT_TRUE(is_reference("http://h/f"));
  EXPECT_TRUE(is_reference("file:x"));
  EXPECT_FALSE(is_reference("model.gguf"));
  EXPECT_FALSE(is_reference("hf"));
}

}  // namespace
}  // namespace yoke::models
