#include "hardware/architecture.h"

#include <charconv>

namespace yoke::hardware {
namespace {

constexpr int kBad = -1;

int number(std::string_view digits, int base) {
  int value = 0;
  const char* const last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, value, base);
  return error == std::errc() && end == last && value >= 0 ? value : kBad;
}

// The names of LLVM's table of AMDGPU processors.
std::string gcn_name(const GfxVersion& version) {
  switch (version.major) {
    case 6:
      return "GCN 1";
    case 7:
      return "GCN 2";
    case 8:
      return version.minor == 0 && version.stepping == 3 ? "GCN 3 or 4" : "GCN 3";
    default:
      return "GCN 5";
  }
}

std::string cdna_name(const GfxVersion& version) {
  if (version.minor == 5) return "CDNA 4";
  if (version.minor == 4) return "CDNA 3";
  return version.stepping == 10 ? "CDNA 2" : "CDNA 1";
}

// gfx908, gfx90a, gfx94x and gfx950; the other chips of generation 9 are Vega.
bool is_cdna(const GfxVersion& version) {
  if (version.major != 9) return false;
  return version.minor == 4 || version.minor == 5 ||
         (version.minor == 0 && (version.stepping == 8 || version.stepping == 10));
}

std::string rdna_name(const GfxVersion& version) {
  if (version.major == 10) return version.minor >= 3 ? "RDNA 2" : "RDNA 1";
  if (version.major == 11 && version.minor == 0) return "RDNA 3";
  if (version.major == 11 && version.minor == 5) return "RDNA 3.5";
  if (version.major == 12 && version.minor == 0) return "RDNA 4";
  return "";
}

}  // namespace

std::optional<GfxVersion> parse_gfx(std::string_view gfx) {
  gfx = gfx.substr(0, gfx.find(':'));
  if (!gfx.starts_with("gfx")) return std::nullopt;
  const std::string_view digits = gfx.substr(3);
  if (digits.size() < 3 || digits.size() > 4) return std::nullopt;
  const std::size_t minor_at = digits.size() - 2;
  const GfxVersion version{number(digits.substr(0, minor_at), 10),
                           number(digits.substr(minor_at, 1), 16),
                           number(digits.substr(minor_at + 1), 16)};
  if (version.major == kBad || version.minor == kBad || version.stepping == kBad) {
    return std::nullopt;
  }
  return version;
}

ArchitectureInfo architecture_of_gfx(std::string_view gfx) {
  const auto version = parse_gfx(gfx);
  if (!version) return {};
  if (is_cdna(*version)) return {Architecture::kCdna, cdna_name(*version)};
  if (version->major >= 6 && version->major <= 9) return {Architecture::kGcn, gcn_name(*version)};
  // gfx1250 is a data centre chip again: what it is called is not known here.
  const bool rdna =
      version->major == 10 || version->major == 11 || (version->major == 12 && version->minor == 0);
  if (rdna) return {Architecture::kRdna, rdna_name(*version)};
  return {};
}

ArchitectureInfo architecture_of_capability(ComputeCapability capability) {
  const auto named = [](std::string name) {
    return ArchitectureInfo{Architecture::kNvidia, std::move(name)};
  };
  switch (capability.major) {
    case 3:
      return named("Kepler");
    case 5:
      return named("Maxwell");
    case 6:
      return named("Pascal");
    case 7:
      return named(capability.minor >= 5 ? "Turing" : "Volta");
    case 8:
      return named(capability.minor >= 9 ? "Ada Lovelace" : "Ampere");
    case 9:
      return named("Hopper");
    case 10:
    case 11:
    case 12:
      return named("Blackwell");
    default:
      return named("");
  }
}

}  // namespace yoke::hardware
