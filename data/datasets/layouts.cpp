// The layouts that folders tell: mvtec and folder.
#include "data/datasets/layouts.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>

#include "base/utf8.hpp"

namespace filo::dataset_layouts {

namespace fs = std::filesystem;

namespace {

constexpr std::array<const char*, 6> image_suffixes = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool has_image_suffix(const fs::path& path) {
  return std::find(image_suffixes.begin(), image_suffixes.end(), lower(path.extension().string())) !=
         image_suffixes.end();
}

bool passed_over(const fs::path& path) {
  const std::string name = lower(path.filename().string());
  return name.empty() || name[0] == '.' || name == "thumbs.db" || name == "desktop.ini";
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (!passed_over(entry.path())) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<fs::path> folders_in(const fs::path& folder) {
  auto entries = sorted_entries(folder);
  std::erase_if(entries, [](const fs::path& path) { return !fs::is_directory(path); });
  return entries;
}

std::string below_root(const fs::path& path, const fs::path& root) {
  return path.lexically_relative(root).generic_string();
}

// A layout's walk: the images of one folder, appended with the given class, split and defect.
class Walk {
 public:
  Walk(const fs::path& root, bool with_masks) : root_(root), with_masks_(with_masks) {}

  // Returns how many files there were, wrong ones too. `find_mask` gives an image's mask, and nothing after noting with
  // mask_is_missing() where it was expected.
  template <typename FindMask>
  std::size_t add_images(const fs::path& folder, const std::string& class_name, const std::string& split,
                         const std::string& defect, const FindMask& find_mask) {
    std::size_t count = 0;
    for (const fs::path& path : sorted_entries(folder)) {
      ++count;
      const std::string name = below_root(path, root_);
      if (fs::is_directory(path)) {
        problem(name, "is a folder, expected an image");
      } else if (!has_image_suffix(path)) {
        problem(name, "is not an image (.png, .jpg, .jpeg, .bmp, .tif, .tiff)");
      } else if (const std::string fault = path_fault(name); !fault.empty()) {
        problem(printable(name), fault);
      } else {
        DatasetImage image;
        image.path = name;
        image.class_name = class_name;
        image.split = split;
        image.defect = defect;
        image.label = defect == "good" ? 0 : 1;
        if (image.label == 1 && with_masks_) image.mask = find_mask(path);
        listing.images.push_back(image);
      }
    }
    return count;
  }

  void problem(const std::string& path, const std::string& reason) { listing.problems.push_back({path, reason, ""}); }
  void mask_is_missing(const fs::path& image, const std::string& expected) {
    listing.missing_masks.push_back(
        {below_root(image, root_), "its mask is missing, expected " + expected, "the mask of a defect is missing"});
  }

  Listing listing;

 private:
  fs::path root_;
  bool with_masks_;
};

}  // namespace

std::string path_fault(const std::string& path) {
  if (path.empty()) return "the path is empty";
  if (!is_utf8(path)) return "the path is not UTF-8";
  if (path.find('\0') != std::string::npos) return "the path holds a zero byte";
  const fs::path as_path(path);
  if (as_path.is_absolute()) return "the path is absolute, expected one below the data set's folder";
  for (const auto& part : as_path)
    if (part == "..") return "the path leads outside the data set's folder";
  return "";
}

DatasetFormat detect(const fs::path& root) {
  if (fs::is_regular_file(root / "meta.json")) return DatasetFormat::meta;
  if (fs::is_regular_file(root / "split_csv" / "1cls.csv")) return DatasetFormat::visa;
  for (const fs::path& folder : folders_in(root))
    if (fs::is_directory(folder / "test" / "good") || fs::is_directory(folder / "train" / "good"))
      return DatasetFormat::mvtec;
  return DatasetFormat::folder;
}

Listing list_mvtec(const fs::path& root, bool with_masks) {
  Walk walk(root, with_masks);
  for (const fs::path& folder : folders_in(root)) {
    if (!fs::is_directory(folder / "train") && !fs::is_directory(folder / "test")) continue;
    const std::string class_name = folder.filename().string();
    std::set<std::string> used_masks;
    const auto no_mask = [](const fs::path&) { return std::optional<std::string>(); };
    std::size_t images = walk.add_images(folder / "train" / "good", class_name, "train", "good", no_mask);
    for (const fs::path& defect_folder : folders_in(folder / "test")) {
      const std::string defect = defect_folder.filename().string();
      const auto mask_of = [&](const fs::path& image) -> std::optional<std::string> {
        const std::string stem = (folder / "ground_truth" / defect / image.stem()).string() + "_mask";
        for (const char* suffix : image_suffixes)
          if (fs::exists(stem + suffix)) return *used_masks.insert(below_root(stem + suffix, root)).first;
        walk.mask_is_missing(image, below_root(stem + ".png", root));
        return std::nullopt;
      };
      images += walk.add_images(defect_folder, class_name, "test", defect, mask_of);
    }
    if (images == 0) walk.problem(class_name, "holds no images in train/good or test: the class is empty");
    if (!with_masks) continue;
    for (const fs::path& defect_folder : folders_in(folder / "ground_truth"))
      for (const fs::path& mask : sorted_entries(defect_folder))
        if (!used_masks.contains(below_root(mask, root)))
          walk.problem(below_root(mask, root), "is a mask without an image");
  }
  return std::move(walk.listing);
}

Listing list_folder(const fs::path& root, bool with_masks) {
  Walk walk(root, with_masks);
  for (const fs::path& folder : folders_in(root)) {
    const std::string class_name = folder.filename().string();
    if (class_name == "masks") continue;
    std::size_t images = 0;
    for (const fs::path& image_folder : folders_in(folder)) {
      const std::string defect = image_folder.filename().string();
      if (defect == "masks") continue;
      const auto mask_of = [&](const fs::path& image) -> std::optional<std::string> {
        for (const fs::path& masks : {folder / "masks" / defect, root / "masks" / class_name / defect})
          for (const fs::path& mask : sorted_entries(masks))
            if (has_image_suffix(mask) &&
                (mask.stem() == image.stem() || mask.stem().string() == image.stem().string() + "_mask"))
              return below_root(mask, root);
        walk.mask_is_missing(image, class_name + "/masks/" + defect + "/" + image.stem().string() + ".png");
        return std::nullopt;
      };
      const bool train = defect == "train";
      images += walk.add_images(image_folder, class_name, train ? "train" : "test", train ? "good" : defect, mask_of);
    }
    if (images == 0)
      walk.problem(class_name, "holds no images in train/, good/ or a defect's folder: the class is empty");
  }
  return std::move(walk.listing);
}

}  // namespace filo::dataset_layouts
