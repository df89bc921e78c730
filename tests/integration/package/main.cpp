// Writes a tensor and reads it again, reads the descriptions file that it is given, and says what it found.
#include <cstdint>
#include <iostream>
#include <vector>

#include "checkpoint/safetensors.hpp"
#include "data/boxes.hpp"
#include "data/shards/half.hpp"
#include "settings/descriptions.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::vector<std::uint16_t> halves = {filo::float_to_half(1.0F), filo::float_to_half(-2.5F)};
  filo::write_safetensors("two.safetensors", {{"two", {"F16", {2}, std::as_bytes(std::span(halves))}}});
  const auto read = filo::SafetensorsFile::open("two.safetensors").at("two");
  std::cout << "two: " << filo::shape_to_string(read.shape) << " " << read.dtype << "\n"
            << "position: " << filo::position_name(filo::position_of({.x0 = 0.7F, .y0 = 0.7F})) << "\n"
            << "classes: " << filo::load_descriptions(argv[1]).classes.size() << "\n";
}
