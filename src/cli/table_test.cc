#include "cli/table.h"

#include <gtest/gtest.h>

namespace yoke::cli {
namespace {

Table sample() {
  Table table({{"MODEL"}, {"PID", Table::Align::kRight}, {"STATE"}});
  table.add_row({"größe", "7", "ready"});
  table.add_row({"b", "12345", ""});
  table.add_note("It does not start.");
  return table;
}

TEST(Table, AlignsItsColumns) {
  EXPECT_EQ(sample().render({}),
            "MODEL    PID  STATE\n"
            "größe      7  ready\n"
            "b      12345  -\n"
            "  It does not start.\n");
}

TEST(Table, CutsRowsAtTheTerminalsWidth) {
  const Terminal narrow{.tty = true, .styled = false, .width = 10};
  EXPECT_EQ(sample().render(narrow),
            "MODEL    …\n"
            "größe    …\n"
            "b      12…\n"
            "  It does not start.\n");
}

}  // namespace
}  // namespace yoke::cli
