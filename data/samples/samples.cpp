#include "data/samples/samples.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "base/random.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t images_of_mosaic = 4;

ImagePart part_of(const std::string& image, ImageSize size, const Tile& tile) {
  return {.image = image, .image_width = size.width, .image_height = size.height, .tile = tile};
}

ImagePart whole_of(const DatasetImage& entry) {
  return part_of(entry.path, {entry.width, entry.height}, {0, 0, entry.width, entry.height});
}

bool is_cut(const ImagePart& part) {
  return part.tile.width < part.image_width || part.tile.height < part.image_height;
}

// Four as 2 x 2, all of the first one's size.
Image mosaic_of(std::vector<Image> images) {
  const int width = images[0].width, height = images[0].height;
  const bool is_grey = std::ranges::all_of(images, [](const Image& image) { return image.channels == 1; });
  const int channels = is_grey ? 1 : 3;
  Image mosaic(2 * width, 2 * height, channels);
  for (std::size_t i = 0; i < images.size(); ++i) {
    if (!is_grey) images[i] = to_rgb(std::move(images[i]));
    if (images[i].width != width || images[i].height != height)
      images[i] = resize_image(images[i], width, height, ResizeFilter::bilinear);
    const int x = static_cast<int>(i % 2) * width, y = static_cast<int>(i / 2) * height;
    for (int line = 0; line < height; ++line)
      std::copy_n(images[i].pixels.data() + images[i].offset(0, line),
                  static_cast<std::size_t>(width) * static_cast<std::size_t>(channels),
                  mosaic.pixels.data() + mosaic.offset(x, y + line));
  }
  return mosaic;
}

Box moved(const Box& box, double x, double y, double scale_x, double scale_y) {
  Box result = box;
  result.x0 = static_cast<float>((box.x0 - x) * scale_x);
  result.x1 = static_cast<float>((box.x1 - x) * scale_x);
  result.y0 = static_cast<float>((box.y0 - y) * scale_y);
  result.y1 = static_cast<float>((box.y1 - y) * scale_y);
  return result;
}

}  // namespace

SampleInfo tile_sample(const std::string& image, ImageSize size, const Tile& tile) {
  SampleInfo sample;
  sample.image = image;
  if (tile == Tile{0, 0, size.width, size.height}) return sample;
  sample.image += "#xywh=" + std::to_string(tile.x) + "," + std::to_string(tile.y) + "," + std::to_string(tile.width) +
                  "," + std::to_string(tile.height);
  sample.parts = {part_of(image, size, tile)};
  return sample;
}

std::vector<SampleInfo> samples_of(const Dataset& dataset, const TilingSettings& tiling) {
  std::vector<SampleInfo> samples;
  for (const DatasetImage& entry : dataset.images) {
    if (entry.split != "test") continue;
    const ImageSize size = {entry.width, entry.height};
    for (const Tile& tile : tiles_of(size, tiling)) {
      SampleInfo& sample = samples.emplace_back(tile_sample(entry.path, size, tile));
      sample.class_name = entry.class_name;
      sample.label = entry.label;
      sample.split = entry.split;
      sample.defect = entry.defect;
      sample.masked = entry.label == 0 || entry.mask.has_value();
    }
  }
  return samples;
}

std::vector<SampleInfo> mosaics_of(const Dataset& dataset, const TilingSettings& tiling, int variants) {
  std::map<std::string, const DatasetImage*> entries;
  for (const DatasetImage& entry : dataset.images) entries.emplace(entry.path, &entry);
  std::map<std::string, std::vector<SampleInfo>> by_class;
  for (SampleInfo& sample : samples_of(dataset, tiling)) by_class[sample.class_name].push_back(std::move(sample));
  std::vector<SampleInfo> mosaics;
  for (auto& [name, samples] : by_class) {
    if (samples.size() < images_of_mosaic) continue;
    Random random(0, "mosaic " + name);
    for (int variant = 0; variant < variants; ++variant) {
      SampleInfo mosaic{.image = name + "#mosaic=" + std::to_string(variant),
                        .class_name = name,
                        .label = 0,
                        .split = "test",
                        .defect = "good",
                        .masked = true,
                        .boxes = std::nullopt,
                        .parts = {}};
      for (std::size_t i = 0; i < images_of_mosaic; ++i) {
        std::swap(samples[i], samples[i + random.below(samples.size() - i)]);
        const SampleInfo& drawn = samples[i];
        mosaic.parts.push_back(drawn.parts.empty() ? whole_of(*entries.at(drawn.image)) : drawn.parts.front());
        mosaic.masked = mosaic.masked && drawn.masked;
        if (drawn.label == 1) mosaic.label = 1, mosaic.defect = "mosaic";
      }
      mosaics.push_back(std::move(mosaic));
    }
  }
  return mosaics;
}

std::vector<std::string> images_of(const SampleInfo& sample) {
  if (sample.parts.empty()) return {sample.image};
  std::vector<std::string> images;
  for (const ImagePart& part : sample.parts) images.push_back(part.image);
  return images;
}

bool is_cut(const SampleInfo& sample) {
  return std::ranges::any_of(sample.parts, [](const ImagePart& part) { return is_cut(part); });
}

std::vector<Box> boxes_of_sample(const std::map<std::string, std::vector<Box>>& boxes, const SampleInfo& sample) {
  const auto of_image = [&](const std::string& image) {
    const auto found = boxes.find(image);
    return found == boxes.end() ? std::vector<Box>() : found->second;
  };
  if (sample.parts.empty()) return of_image(sample.image);
  std::vector<Box> all;
  for (std::size_t i = 0; i < sample.parts.size(); ++i) {
    const ImagePart& part = sample.parts[i];
    const double width = part.image_width, height = part.image_height;
    std::vector<Box> inside;
    for (const Box& box : of_image(part.image))
      inside.push_back(
          moved(box, part.tile.x / width, part.tile.y / height, width / part.tile.width, height / part.tile.height));
    const bool is_mosaic = sample.parts.size() > 1;
    const std::size_t column = i % 2, row = i / 2;
    for (const Box& box : cut_to_image(inside))
      all.push_back(is_mosaic ? moved(box, -static_cast<double>(column), -static_cast<double>(row), 0.5, 0.5) : box);
  }
  return all;
}

SampleDecoder::SampleDecoder(const Dataset& dataset, int image_size, std::size_t held)
    : dataset_(dataset), image_size_(image_size), most_held_(held) {
  for (const DatasetImage& entry : dataset.images) entries_.emplace(entry.path, &entry);
}

SampleDecoder::Picture SampleDecoder::read(const DatasetImage& entry) const {
  const fs::path root = dataset_.root;
  Picture picture{.image = decode_image(root / entry.path, dataset_.grey16), .mask = std::nullopt};
  if (picture.image.width != entry.width || picture.image.height != entry.height)
    throw Error("image: " + (root / entry.path).string(),
                std::to_string(picture.image.width) + " x " + std::to_string(picture.image.height) +
                    " pixels found, expected " + std::to_string(entry.width) + " x " + std::to_string(entry.height) +
                    " as when the data set was added");
  if (entry.mask) picture.mask = decode_mask(root / *entry.mask);
  return picture;
}

// Who asks first reads it, the others wait for that.
SampleDecoder::SharedPicture SampleDecoder::held(const DatasetImage& entry) {
  std::promise<SharedPicture> promise;
  std::shared_future<SharedPicture> there;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [path, picture] : held_)
      if (path == entry.path) there = picture;
    if (!there.valid()) {
      held_.emplace_back(entry.path, promise.get_future().share());
      if (held_.size() > most_held_) held_.pop_front();
    }
  }
  if (there.valid()) return there.get();
  try {
    auto picture = std::make_shared<const Picture>(read(entry));
    promise.set_value(picture);
    return picture;
  } catch (...) {
    promise.set_exception(std::current_exception());
    throw;
  }
}

DecodedSample SampleDecoder::decode(const SampleInfo& sample) {
  const auto entry_of = [&](const std::string& image) -> const DatasetImage& {
    const auto found = entries_.find(image);
    if (found == entries_.end())
      throw Error("data set " + dataset_.name + ": " + image, "is not in it, but sample " + sample.image + " shows it");
    return *found->second;
  };
  DecodedSample decoded{.info = sample, .image = {}, .mask = {}};
  std::optional<Image> mask;
  if (sample.parts.empty()) {
    Picture picture = read(entry_of(sample.image));
    decoded.image = std::move(picture.image);
    mask = std::move(picture.mask);
  } else {
    std::vector<Image> images, masks;
    bool any_mask = false;
    for (const ImagePart& part : sample.parts) {
      const SharedPicture picture = held(entry_of(part.image));
      images.push_back(cut_tile(picture->image, part.tile));
      masks.push_back(picture->mask ? cut_tile(*picture->mask, part.tile)
                                    : Image(part.tile.width, part.tile.height, 1));
      any_mask = any_mask || picture->mask.has_value();
    }
    decoded.image = images.size() == 1 ? std::move(images[0]) : mosaic_of(std::move(images));
    if (any_mask) mask = masks.size() == 1 ? std::move(masks[0]) : mosaic_of(std::move(masks));
  }
  const auto area = static_cast<std::size_t>(image_size_) * static_cast<std::size_t>(image_size_);
  decoded.mask = mask ? preprocess_mask(*mask, image_size_) : std::vector<std::uint8_t>(area);
  if (is_cut(sample) && sample.masked && sample.label == 1 && std::ranges::count(decoded.mask, 1) == 0) {
    decoded.info.label = 0;
    decoded.info.defect = "good";
  }
  return decoded;
}

}  // namespace filo
