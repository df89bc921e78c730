// For tests/parity/shards.py:
// shard_probe write FOLDER GLOBAL MAPS MASKS COUNT C P WIDTH S  writes features from raw files: GLOBAL [COUNT, C] f32,
//   MAPS [COUNT, 3, P, WIDTH] f32 (qkv/1, qkv/2, vv/2; made float16 here), MASKS [COUNT, S, S] u8
// shard_probe read FOLDER INDEX         prints global, qkv/1, qkv/2, vv/2 (as float32) and mask, raw, on stdout
// shard_probe half FILE / float FILE    converts raw float32 to float16 / back, on stdout
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "data/shards/half.hpp"
#include "data/shards/shard_reader.hpp"
#include "data/shards/shard_writer.hpp"

namespace {

template <typename T>
std::vector<T> raw(const std::string& path) {
  const std::string bytes = filo::read_file(path);
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

template <typename T>
void print(const std::vector<T>& values) {
  std::cout.write(reinterpret_cast<const char*>(values.data()),
                  static_cast<std::streamsize>(values.size() * sizeof(T)));
}

std::vector<std::uint16_t> halves(std::span<const float> values) {
  std::vector<std::uint16_t> bits(values.size());
  filo::float_to_half(values, bits);
  return bits;
}

filo::FeatureMap half_map(std::span<const float> values) {
  const auto bits = halves(values);
  const auto bytes = std::as_bytes(std::span(bits));
  return {{bytes.begin(), bytes.end()}, {}};
}

std::vector<float> floats(std::span<const std::uint16_t> bits) {
  std::vector<float> values(bits.size());
  filo::half_to_float(bits, values);
  return values;
}

void write(const std::vector<std::string>& arguments) {
  const auto number = [&](std::size_t i) { return std::atoi(arguments[i].c_str()); };
  const filo::FeatureLayout layout{.global_size = number(5),
                                   .patches = number(6),
                                   .width = number(7),
                                   .qkv_layers = {1, 2},
                                   .vv_layers = {2},
                                   .mask_size = number(8)};
  const auto global = raw<float>(arguments[1]), maps = raw<float>(arguments[2]);
  const auto masks = raw<std::uint8_t>(arguments[3]);
  const std::size_t count = static_cast<std::size_t>(number(4)), c = global.size() / count;
  const std::size_t map = maps.size() / count / 3, mask = masks.size() / count;
  const filo::Json key = {{"made", "by shard_probe"}};
  std::vector<std::string> images;
  const std::size_t sample_bytes = 4 * c + std::size_t{6} * map + (mask + 7) / 8;
  filo::ShardWriter writer(arguments[0], layout, key, "0", 4 * sample_bytes);
  for (std::size_t i = 0; i < count; ++i) {
    filo::FeatureSample sample;
    sample.image = "klasse/é" + std::to_string(i) + ".png";
    sample.class_name = "klasse";
    sample.label = static_cast<int>(i % 2);
    sample.split = "test";
    sample.defect = i % 2 != 0 ? "scratch" : "";
    if (i == 1) sample.boxes = "[]";
    sample.global.assign(global.begin() + static_cast<std::ptrdiff_t>(i * c),
                         global.begin() + static_cast<std::ptrdiff_t>((i + 1) * c));
    const auto map_of = [&](std::size_t j) { return half_map(std::span(maps).subspan((3 * i + j) * map, map)); };
    sample.qkv = {{1, map_of(0)}, {2, map_of(1)}};
    sample.vv = {{2, map_of(2)}};
    sample.mask.assign(masks.begin() + static_cast<std::ptrdiff_t>(i * mask),
                       masks.begin() + static_cast<std::ptrdiff_t>((i + 1) * mask));
    writer.append(sample);
    images.push_back(sample.image);
  }
  writer.close();
  filo::finish_features(arguments[0], layout, key, images, writer.finished());
}

void read(const std::vector<std::string>& arguments) {
  const filo::ShardReader reader(arguments[0]);
  const filo::FeatureLayout& layout = reader.layout();
  const auto sample = reader.read(std::stoul(arguments[1]));
  print(std::vector<float>(sample.global(), sample.global() + layout.global_size));
  const auto map_of = [&](bool vv, int layer) {
    const auto* bits = reinterpret_cast<const std::uint16_t*>(sample.map(vv, layer));
    return floats({bits, static_cast<std::size_t>(layout.patches) * static_cast<std::size_t>(layout.width)});
  };
  print(map_of(false, 1));
  print(map_of(false, 2));
  print(map_of(true, 2));
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(layout.mask_size) *
                                 static_cast<std::size_t>(layout.mask_size));
  sample.mask(0, mask);
  print(mask);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 1 ? argv[1] : "";
    const std::vector<std::string> arguments(argv + std::min(argc, 2), argv + argc);
    if (what == "write" && arguments.size() == 9)
      write(arguments);
    else if (what == "read" && arguments.size() == 2)
      read(arguments);
    else if (what == "half" && arguments.size() == 1)
      print(halves(raw<float>(arguments[0])));
    else if (what == "float" && arguments.size() == 1)
      print(floats(raw<std::uint16_t>(arguments[0])));
    else
      return 2;
    return 0;
  } catch (const filo::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
