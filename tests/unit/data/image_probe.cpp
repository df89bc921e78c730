// Prints what data/images/image.hpp makes of a file, for tests/parity/images.py:
//   image_probe rgb FILE [LOW:HIGH]  width, height as int32, then [H, W, 3] bytes
//   image_probe size FILE         width, height as int32
//   image_probe clip FILE SIZE    [3, SIZE, SIZE] float32
//   image_probe mask FILE SIZE    [SIZE, SIZE] bytes of 0 or 1
//   image_probe png FILE OUT      writes the image again, as PNG
#include <cstdlib>
#include <iostream>
#include <span>
#include <string>

#include "base/error.hpp"
#include "data/images/image.hpp"

namespace {

template <typename T>
void print(std::span<const T> values) {
  std::cout.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
}

void print_size(filo::ImageSize size) {
  const int both[] = {size.width, size.height};
  print<int>(both);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 2) return 2;
  const std::string &what = arguments[0], &file = arguments[1];
  const std::string last = arguments.size() > 2 ? arguments[2] : "";
  try {
    if (what == "rgb") {
      const filo::Image image = filo::to_rgb(
          filo::decode_image(file, last.empty() ? std::nullopt : std::optional(filo::grey16_range_from(last))));
      print_size({image.width, image.height});
      print<std::uint8_t>(image.pixels);
    } else if (what == "size") {
      print_size(filo::read_image_size(std::filesystem::path(file)));
    } else if (what == "clip") {
      print<float>(filo::preprocess_clip(filo::decode_image(file), std::stoi(last)));
    } else if (what == "mask") {
      print<std::uint8_t>(filo::preprocess_mask(filo::decode_mask(file), std::stoi(last)));
    } else if (what == "png") {
      filo::write_png(last, filo::decode_image(file));
    } else {
      return 2;
    }
  } catch (const filo::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
