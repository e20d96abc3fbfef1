#include "cli/list.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

ListedModel listed(const std::string& name) {
  ListedModel model;
  model.entry.name = name;
  model.entry.source = "hf:org/" + name;
  model.entry.format = "gguf";
  model.entry.path = "/m/a.gguf";
  model.entry.quantization = "Q4_K_M";
  model.entry.parameters = 8'030'261'248;
  model.entry.context_length = 131'072;
  models::ModelFile file;
  file.path = "/m/a.gguf";
  file.bytes = 4'920'000'000;
  model.entry.files.push_back(file);
  return model;
}

TEST(FormatModels, HasALineForEach) {
  ListedModel fits = listed("llama");
  fits.fits = "yes";
  ListedModel unknown = listed("q");
  unknown.entry.quantization.clear();
  unknown.entry.parameters = 0;
  EXPECT_EQ(format_models({fits, unknown}, {}),
            "NAME     SIZE  QUANT   PARAMETERS  CONTEXT  FITS  ADDED  SOURCE\n"
            "llama  4.9 GB  Q4_K_M      8.03 B   131072  yes   -      hf:org/llama\n"
            "q      4.9 GB  -                -   131072  -     -      hf:org/q\n");
}

TEST(FormatModels, MarksWhatIsMissing) {
  ListedModel model = listed("llama");
  model.missing = {"/m/a.gguf"};
  EXPECT_THAT(format_models({model}, {}), HasSubstr("\n  /m/a.gguf is missing.\n"));
  model.missing.emplace_back("/m/b.gguf");
  EXPECT_THAT(format_models({model}, {}),
              HasSubstr("  /m/a.gguf and 1 more of its files are missing.\n"));
}

TEST(FormatModels, IsCutAtTheTerminalsWidthAndCanNotDriveIt) {
  ListedModel model = listed("llama");
  model.entry.quantization = "\x1b[31mevil\nline";
  const std::string text = format_models({model}, {.tty = true, .styled = false, .width = 40});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr("evil line"));
  EXPECT_THAT(text, HasSubstr("…\n"));
}

TEST(FormatCutPulls, SaysHowToGoOn) {
  const models::CutPull cut{{"hf:org/m:Q4_0", {}}, 3'000'000'000, 375'000'000'000};
  EXPECT_EQ(format_cut_pulls({cut}),
            "hf:org/m:Q4_0 is not complete, 3.0 GB of 375.0 GB are there: `yoke pull "
            "hf:org/m:Q4_0` goes on, `yoke rm hf:org/m:Q4_0` removes them.\n");
  EXPECT_THAT(format_cut_pulls({{{"a\x1b[2J", {}}, 1000, 0}}),
              AllOf(HasSubstr("1.0 KB are there"), Not(HasSubstr("\x1b"))));
}

TEST(ListedModelJson, SaysWhatIsKnown) {
  ListedModel model = listed("llama");
  model.missing = {"/m/a.gguf"};
  const boost::json::object json = to_json(model);
  EXPECT_EQ(json.at("name"), "llama");
  EXPECT_EQ(json.at("bytes"), 4'920'000'000);
  EXPECT_EQ(json.at("missing"), true);
  EXPECT_TRUE(json.at("fits").is_null());
  EXPECT_EQ(json.at("files").at(0).at("path"), "/m/a.gguf");
  EXPECT_EQ(json.at("files").at(0).at("role"), "weights");
}

}  // namespace
}  // namespace yoke::cli
