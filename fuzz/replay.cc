// Runs a fuzz target without libFuzzer: replay CORPUS [MUTATIONS]. Each file of the corpus as it
// is, then with MUTATIONS changes of it, the same ones each time.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937_64;

void run(const std::string& input) {
  // A copy of its own, so that AddressSanitizer sees a read behind the end.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

// Values at which parsers break.
const std::vector<std::string> kPieces{"",
                                       "-1",
                                       "0x",
                                       "18446744073709551616",
                                       "99999999999999999999999",
                                       "\n",
                                       ":",
                                       "=",
                                       " ",
                                       "max",
                                       "\"",
                                       std::string(1, '\0'),
                                       ",",
                                       "/../"};

void mutate(std::string& input, Random& random) {
  const std::size_t at = random() % (input.size() + 1);
  switch (random() % 5) {
    case 0:
      input.insert(at, kPieces[random() % kPieces.size()]);
      break;
    case 1:
      input.erase(at, random() % 16);
      break;
    case 2:
      if (at < input.size()) input[at] = static_cast<char>(random());
      break;
    case 3:
      input.resize(at);
      break;
    default:
      input.insert(at, input.substr(random() % (input.size() + 1), random() % 64));
      break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: replay CORPUS [MUTATIONS]\n", stderr);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  const long mutations = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 0;
  Random random(1);
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    const std::string original(std::istreambuf_iterator<char>(in), {});
    run(original);
    std::string input = original;
    for (long i = 0; i < mutations; ++i) {
      if (i % 16 == 0) input = original;
      mutate(input, random);
      run(input);
    }
  }
  std::printf("%zu files, %ld mutations each\n", files.size(), mutations);
  return files.empty() ? 1 : 0;
}
