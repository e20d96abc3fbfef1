// A table of text in aligned columns, one line per row. A value; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/terminal.h"

namespace yoke::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as there are columns; an empty one is shown as "-".
  void add_row(std::vector<std::string> cells);
  // A line below the last row.
  void add_note(std::string text);

  // A row that is wider than the terminal is cut instead of wrapped; notes are never cut.
  std::string render(const Terminal& terminal) const;

 private:
  struct Row {
    std::vector<std::string> cells;
    std::vector<std::string> notes;
  };
  std::string line(const std::vector<std::string>& cells,
                   const std::vector<std::size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace yoke::cli
