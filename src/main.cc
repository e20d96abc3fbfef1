#include "cli/app.h"

int main(int argc, char** argv) { return yoke::cli::run(argc, argv); }
