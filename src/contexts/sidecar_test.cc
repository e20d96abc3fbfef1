#include "contexts/sidecar.h"

#include <gtest/gtest.h>

#include "base/json_fields.h"

namespace yoke::contexts {
namespace {

TEST(Sidecar, ComesBackAsItWas) {
  const Sidecar sidecar{"key \"with\"\nlines", "name", 1'234'567'890'123, 8000,
                        1'700'000'000'123'456'789};
  const auto back = parse_sidecar(sidecar_text(sidecar));
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(back->key, sidecar.key);
  EXPECT_EQ(back->model, "name");
  EXPECT_EQ(back->bytes, sidecar.bytes);
  EXPECT_EQ(back->tokens, sidecar.tokens);
  EXPECT_EQ(back->modified_ns, sidecar.modified_ns);
}

TEST(Sidecar, OfAnotherFormatIsRefused) {
  const std::string text = sidecar_text({"k", "m", 1, 1, 1});
  std::string other = text;
  other.replace(other.find('1'), 1, "2");  // The format stands first.
  ASSERT_NE(other.find("format"), std::string::npos);
  EXPECT_FALSE(parse_sidecar(other));
  for (const char* wrong : {"", "[]", "{}", "null", R"({"format":1})",
                            R"({"format":1,"key":5,"bytes":1,"tokens":1,"modified_ns":1})",
                            R"({"format":1,"key":"k","bytes":-1,"tokens":1,"modified_ns":1})",
                            R"({"format":1,"key":"k","bytes":1,"tokens":1.5,"modified_ns":1})",
                            R"({"format":1,"key":"k","bytes":1e300,"tokens":1,"modified_ns":1})"}) {
    EXPECT_FALSE(parse_sidecar(wrong)) << wrong;
  }
  for (std::size_t size = 0; size + 1 < text.size(); ++size) {
    EXPECT_FALSE(parse_sidecar(text.substr(0, size))) << size;
  }
}

TEST(ContextName, IsNeverTheSame) {
  const std::string one = new_context_name("k");
  EXPECT_NE(one, new_context_name("k"));
  EXPECT_EQ(kind_of(one), FileKind::kContext);
  EXPECT_EQ(kind_of(one + ".json"), FileKind::kSidecar);
  EXPECT_EQ(kind_of(one + ".part"), FileKind::kPart);
  EXPECT_EQ(kind_of(one + ".json.part"), FileKind::kPart);
}

TEST(ContextName, IsOnlyWhatYokeGives) {
  const std::string one = new_context_name("k");
  for (const std::string& other :
       {std::string("notes.txt"), std::string("ctx-.kv"), std::string(".part"), one + "x",
        "x" + one, one + ".part.json", one + ".json.json", std::string("ctx-model.kv"),
        std::string("ctx-0123456789ABCDEF-0123456789abcdef01234567.kv")}) {
    EXPECT_EQ(kind_of(other), std::nullopt) << other;
  }
}

}  // namespace
}  // namespace yoke::contexts
