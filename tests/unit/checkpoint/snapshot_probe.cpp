// snapshot_probe FOLDER: writes one snapshot of known tensors; snapshot_probe --newest FOLDER: prints the newest's
// step.
#include <cstring>
#include <iostream>
#include <vector>

#include "base/error.hpp"
#include "base/log.hpp"
#include "checkpoint/safetensors.hpp"
#include "checkpoint/snapshot.hpp"

namespace {

void write_known(const std::filesystem::path& path, filo::Sha256& digest, float factor) {
  std::vector<float> values(12);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = factor * static_cast<float>(i);
  filo::write_safetensors(
      path, {{"prompts.vectors", {.dtype = "F32", .shape = {3, 4}, .bytes = std::as_bytes(std::span(values))}}}, {},
      &digest);
}

}  // namespace

int main(int argc, char** argv) {
  filo::start_logging("snapshot_probe");
  try {
    if (argc == 3 && std::strcmp(argv[1], "--newest") == 0) {
      const auto snapshot = filo::newest_valid_snapshot(argv[2]);
      std::cout << (snapshot ? snapshot->step : -1) << "\n";
      return 0;
    }
    if (argc != 2) return 2;
    for (const int step : {50, 100})
      filo::write_snapshot(
          argv[1], step, [](const auto& path, auto& digest) { write_known(path, digest, 1); },
          [](const auto& path, auto& digest) { write_known(path, digest, 0.5); }, {{"step", step}, {"epoch", 3}});
    return 0;
  } catch (const filo::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
