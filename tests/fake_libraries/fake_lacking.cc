// Stands in for a library that has none of the functions that anybody would look for.
extern "C" __attribute__((visibility("default"))) int nothing_of_use() { return 0; }
