// What the catalogue says of a model, for people and for programs. Main thread only.
#pragma once

#include <filesystem>
#include <vector>

#include <boost/json/object.hpp>

#include "cli/page.h"
#include "models/catalogue.h"

namespace yoke::cli {

// Of its files, those that are not there any more.
std::vector<std::filesystem::path> missing_files(const models::CatalogueEntry& entry);

// Name, source, and the files with their sizes and sums. `with_header`: also what is known of its
// header.
void add_entry(Page& page, const models::CatalogueEntry& entry, bool with_header);

boost::json::object entry_json(const models::CatalogueEntry& entry);

}  // namespace yoke::cli
