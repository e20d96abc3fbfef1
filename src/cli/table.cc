#include "cli/table.h"

#include <algorithm>

namespace yoke::cli {
namespace {

constexpr std::string_view kGap = "  ";

// The first `columns` columns of UTF-8 text.
std::string_view first_columns(std::string_view text, std::size_t columns) {
  std::size_t end = 0;
  while (end < text.size()) {
    const bool starts_character = (static_cast<unsigned char>(text[end]) & 0xc0) != 0x80;
    if (starts_character && columns-- == 0) break;
    ++end;
  }
  return text.substr(0, end);
}

std::string cut(const std::string& line, const Terminal& terminal) {
  const auto width = static_cast<std::size_t>(terminal.width);
  if (width == 0 || display_width(line) <= width) return line;
  return std::string(first_columns(line, width - 1)) + "…";
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) {
    if (cell.empty()) cell.push_back('-');
  }
  rows_.push_back({std::move(cells), {}});
}

void Table::add_note(std::string text) {
  if (!rows_.empty()) rows_.back().notes.push_back(std::move(text));
}

std::string Table::line(const std::vector<std::string>& cells,
                        const std::vector<std::size_t>& widths) const {
  std::string text;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (i > 0) text += kGap;
    const std::string padding(widths[i] - display_width(cells[i]), ' ');
    text += columns_[i].align == Align::kRight ? padding + cells[i] : cells[i] + padding;
  }
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string Table::render(const Terminal& terminal) const {
  std::vector<std::string> titles;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    widths.push_back(display_width(columns_[i].title));
    for (const Row& row : rows_) widths[i] = std::max(widths[i], display_width(row.cells[i]));
  }
  std::string text = terminal.bold(cut(line(titles, widths), terminal)) + "\n";
  for (const Row& row : rows_) {
    text += cut(line(row.cells, widths), terminal) + "\n";
    for (const std::string& note : row.notes) text += std::string(kGap) + note + "\n";
  }
  return text;
}

}  // namespace yoke::cli
