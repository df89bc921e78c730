#include "data/datasets/sheet.hpp"

#include <algorithm>
#include <tuple>

namespace filo {

namespace {

constexpr int tile_size = 160, gap = 4;  // pixels
constexpr std::size_t columns = 8, most_groups = 10'000;
constexpr std::uint8_t background = 32;
constexpr Color outline = {.red = 0, .green = 230, .blue = 118};

// The image within tile_size x tile_size, its mask outlined. A mask is shrunk so that no defect vanishes.
Image tile_of(const DatasetImage& entry, const Dataset& dataset) {
  const std::filesystem::path root = dataset.root;
  const Image photo = to_rgb(decode_image(root / entry.path, dataset.grey16));
  const double scale = static_cast<double>(tile_size) / std::max(photo.width, photo.height);
  const int width = std::max(1, static_cast<int>(photo.width * scale)),
            height = std::max(1, static_cast<int>(photo.height * scale));
  Image tile = resize_image(photo, width, height, ResizeFilter::bicubic);
  if (!entry.mask) return tile;
  return draw_contour(std::move(tile),
                      resize_image(decode_mask(root / *entry.mask), width, height, ResizeFilter::bilinear), outline);
}

void paste(const Image& tile, int left, int top, Image* sheet) {
  for (int y = 0; y < tile.height; ++y)
    std::copy_n(tile.pixels.data() + tile.offset(0, y), static_cast<std::size_t>(tile.width) * 3,
                sheet->pixels.data() + sheet->offset(left, top + y));
}

}  // namespace

std::vector<DatasetGroup> groups_of(const Dataset& dataset) {
  std::map<std::tuple<std::string, std::string, int, std::string>, DatasetGroup> groups;
  for (const DatasetImage& image : dataset.images) {
    DatasetGroup& group = groups[{image.class_name, image.split, image.label, image.defect}];
    group.images.push_back(&image);
    group.masks += image.mask ? 1 : 0;
    ++group.size_counts[{image.width, image.height}];
  }
  std::vector<DatasetGroup> result;
  for (auto& [key, group] : groups) {
    std::tie(group.class_name, group.split, group.label, group.defect) = key;
    result.push_back(std::move(group));
  }
  return result;
}

Image contact_sheet(const std::vector<DatasetGroup>& groups, const Dataset& dataset, const Progress& progress) {
  if (groups.empty() || groups.size() > most_groups)
    throw Error("dataset: sheet", "found " + std::to_string(groups.size()) +
                                      " kinds of images, a row for each, expected 1 to " + std::to_string(most_groups));
  const int step = tile_size + gap;
  Image sheet(static_cast<int>(columns) * step + gap, static_cast<int>(groups.size()) * step + gap, 3, background);
  parallel_for(
      groups.size() * columns, 0,
      [&](std::size_t i) {
        const auto& images = groups[i / columns].images;
        const std::size_t column = i % columns, shown = std::min(columns, images.size());
        if (column >= shown) return;
        const Image tile = tile_of(*images[column * images.size() / shown], dataset);
        paste(tile, gap + static_cast<int>(column) * step + (tile_size - tile.width) / 2,
              gap + static_cast<int>(i / columns) * step + (tile_size - tile.height) / 2, &sheet);
      },
      progress);
  return sheet;
}

}  // namespace filo
