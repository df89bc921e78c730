#include "data/shards/format.hpp"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

int checked_int(const Json& json, const std::string& where, const char* key, int max) {
  const auto found = json.find(key);
  if (found == json.end()) throw Error(where, std::string(key) + ": not there, expected an integer");
  if (!found->is_number_integer() || found->get<std::int64_t>() < 1 || found->get<std::int64_t>() > max)
    throw Error(where, std::string(key) + ": found " + found->dump() + ", expected 1 to " + std::to_string(max));
  return found->get<int>();
}

std::vector<int> checked_layers(const Json& json, const std::string& where, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array() || found->size() > 1000)
    throw Error(where, std::string(key) + ": expected a list of at most 1000 layers");
  std::vector<int> layers;
  for (const Json& layer : *found) {
    if (!layer.is_number_integer() || layer.get<std::int64_t>() < 0 || layer.get<std::int64_t>() > 100000)
      throw Error(where, std::string(key) + ": found " + layer.dump() + ", expected a layer number");
    layers.push_back(layer.get<int>());
  }
  if (!std::is_sorted(layers.begin(), layers.end(), std::less_equal<>()))
    throw Error(where, std::string(key) + ": found " + found->dump() + ", expected ascending layers");
  return layers;
}

Json parse_attribute(hid_t file, const char* name, const std::string& where) {
  const std::string text = hdf5::read_string_attribute(file, name, where);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error(where, std::string("attribute ") + name + ": not valid JSON: " + error.what());
  }
}

hsize_t row_count(hid_t file, const std::string& where) {
  const hdf5::Handle labels(H5Dopen2(file, "label", H5P_DEFAULT), H5Dclose, where + ": label", "H5Dopen2");
  const hdf5::Handle space(H5Dget_space(labels.get()), H5Sclose, where + ": label", "H5Dget_space");
  const hssize_t rows = H5Sget_simple_extent_npoints(space.get());
  if (rows < 1 || rows > static_cast<hssize_t>(max_samples_per_shard))
    throw Error(where, "label: " + std::to_string(rows) + " rows found, expected 1 to " +
                           std::to_string(max_samples_per_shard));
  return static_cast<hsize_t>(rows);
}

std::vector<SampleInfo> read_samples(hid_t file, hsize_t rows, std::uint64_t file_bytes, const std::string& where) {
  const auto images = hdf5::read_strings(file, "images", rows, file_bytes, where);
  const auto classes = hdf5::read_strings(file, "class", rows, file_bytes, where);
  const auto splits = hdf5::read_strings(file, "split", rows, file_bytes, where);
  const auto defects = hdf5::read_strings(file, "defect", rows, file_bytes, where);
  const auto boxes = hdf5::read_strings(file, "boxes", rows, file_bytes, where);
  std::vector<std::int32_t> labels(rows);
  const hdf5::Handle dataset = hdf5::open_dataset(file, "label", {rows}, where);
  hdf5::check(H5Dread(dataset.get(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, labels.data()), where + ": label",
              "H5Dread");
  std::vector<SampleInfo> samples(rows);
  for (std::size_t row = 0; row < rows; ++row)
    samples[row] = {.image = images[row],
                    .class_name = classes[row],
                    .label = labels[row],
                    .split = splits[row],
                    .defect = defects[row],
                    .boxes = boxes[row].empty() ? std::nullopt : std::optional(boxes[row])};
  return samples;
}

std::vector<std::vector<std::uint32_t>> read_checksums(hid_t file, hsize_t rows, std::size_t tensors,
                                                       const std::string& where) {
  const hdf5::Handle dataset = hdf5::open_dataset(file, "checksums", {rows, tensors}, where);
  std::vector<std::uint32_t> all(rows * tensors);
  hdf5::check(H5Dread(dataset.get(), H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()),
              where + ": checksums", "H5Dread");
  std::vector<std::vector<std::uint32_t>> by_row;
  for (std::size_t row = 0; row < rows; ++row) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row * tensors);
    by_row.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(tensors));
  }
  return by_row;
}

// Appends this tensor's place to each row's list.
void find_chunks(hid_t file, const ShardTensor& tensor, ShardContent& content, const std::string& where) {
  const std::string place = where + ": " + tensor.name;
  std::vector<hsize_t> dims = {content.samples.size()};
  dims.insert(dims.end(), tensor.shape.begin(), tensor.shape.end());
  const hdf5::Handle dataset = hdf5::open_dataset(file, tensor.name, dims, where);
  const hdf5::Handle found_type(H5Dget_type(dataset.get()), H5Tclose, place, "H5Dget_type");
  const hdf5::Handle type = element_type(tensor.type, place);
  if (H5Tequal(found_type.get(), type.get()) <= 0) throw Error(place, "another element type found than the layout's");
  const hdf5::Handle properties(H5Dget_create_plist(dataset.get()), H5Pclose, place, "H5Dget_create_plist");
  if (H5Pget_layout(properties.get()) != H5D_CHUNKED || H5Pget_nfilters(properties.get()) != 0)
    throw Error(place, "compressed or not chunked, expected one plain chunk per image");
  std::vector<hsize_t> origin(dims.size(), 0);
  for (std::size_t row = 0; row < content.samples.size(); ++row) {
    origin[0] = row;
    unsigned filters = 0;
    haddr_t offset = HADDR_UNDEF;
    hsize_t bytes = 0;
    hdf5::check(H5Dget_chunk_info_by_coord(dataset.get(), origin.data(), &filters, &offset, &bytes), place,
                "H5Dget_chunk_info_by_coord");
    if (offset == HADDR_UNDEF || bytes != tensor.bytes || offset > content.bytes || bytes > content.bytes - offset)
      throw Error(place, "row " + std::to_string(row) + ": chunk of " + std::to_string(bytes) + " bytes at " +
                             std::to_string(offset) + " found, expected " + std::to_string(tensor.bytes) +
                             " bytes inside the file's " + std::to_string(content.bytes) + " (truncated?)");
    content.offsets[row].push_back(offset);
  }
}

}  // namespace

Json to_json(const FeatureLayout& layout) {
  return {{"global_size", layout.global_size}, {"patches", layout.patches},     {"width", layout.width},
          {"qkv_layers", layout.qkv_layers},   {"vv_layers", layout.vv_layers}, {"mask_size", layout.mask_size}};
}

FeatureLayout feature_layout_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) throw Error(where, "layout: expected an object");
  return {.global_size = checked_int(json, where, "global_size", 65536),
          .patches = checked_int(json, where, "patches", 65536),
          .width = checked_int(json, where, "width", 65536),
          .qkv_layers = checked_layers(json, where, "qkv_layers"),
          .vv_layers = checked_layers(json, where, "vv_layers"),
          .mask_size = checked_int(json, where, "mask_size", 16384)};
}

std::vector<ShardTensor> shard_tensors(const FeatureLayout& layout) {
  const auto global = static_cast<hsize_t>(layout.global_size), patches = static_cast<hsize_t>(layout.patches),
             width = static_cast<hsize_t>(layout.width), side = static_cast<hsize_t>(layout.mask_size);
  std::vector<ShardTensor> tensors = {{"global", {global}, ElementType::f32, global * sizeof(float)}};
  for (const int layer : layout.qkv_layers)
    tensors.push_back({"qkv/" + std::to_string(layer), {patches, width}, ElementType::f16, patches * width * 2});
  for (const int layer : layout.vv_layers)
    tensors.push_back({"vv/" + std::to_string(layer), {patches, width}, ElementType::f16, patches * width * 2});
  tensors.push_back({"mask", {side, side}, ElementType::u8, side * side});
  return tensors;
}

hdf5::Handle element_type(ElementType type, const std::string& where) {
  if (type == ElementType::f16) return hdf5::half_type(where);
  return {H5Tcopy(type == ElementType::f32 ? H5T_IEEE_F32LE : H5T_STD_U8LE), H5Tclose, where, "H5Tcopy"};
}

ShardContent open_shard(const fs::path& path) {
  const std::string where = "shard " + path.string();
  ShardContent content;
  content.path = path;
  std::error_code error;
  content.bytes = fs::file_size(path, error);
  if (error) throw Error(where, "cannot be opened: " + error.message());

  const auto held = hdf5::lock();
  const hdf5::Handle access = hdf5::file_access(where);
  const hdf5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose, where, "H5Fopen");
  if (const std::string format = hdf5::read_string_attribute(file.get(), "format", where);
      format != std::to_string(shard_format))
    throw Error(where, "format found: " + format + ", expected " + std::to_string(shard_format));
  content.layout = feature_layout_from_json(parse_attribute(file.get(), "layout", where), where + ": layout");
  content.key = parse_attribute(file.get(), "key", where);
  const auto tensors = shard_tensors(content.layout);
  const hsize_t rows = row_count(file.get(), where);
  content.samples = read_samples(file.get(), rows, content.bytes, where);
  content.checksums = read_checksums(file.get(), rows, tensors.size(), where);
  const std::string expected = hdf5::read_string_attribute(file.get(), "digest", where);
  if (const std::string found = table_digest(content.samples, content.checksums); found != expected)
    throw Error(where, "tables altered: digest found: " + found + ", expected " + expected);
  content.offsets.resize(rows);
  for (const ShardTensor& tensor : tensors) find_chunks(file.get(), tensor, content, where);
  return content;
}

std::map<int, fs::path> shard_files(const fs::path& folder) {
  std::map<int, fs::path> found;
  std::error_code error;
  if (!fs::exists(folder, error)) return found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.size() != 14 || !name.starts_with("shard-") || !name.ends_with(".h5")) continue;
    int number = 0;
    const auto [parsed, problem] = std::from_chars(name.data() + 6, name.data() + 11, number);
    if (problem == std::errc() && parsed == name.data() + 11 && number >= 0) found[number] = entry->path();
  }
  if (error) throw Error("shards: " + folder.string(), "cannot be listed: " + error.message());
  return found;
}

std::vector<ShardContent> usable_shards(const fs::path& folder, const FeatureLayout& layout, const Json& key) {
  std::vector<ShardContent> usable;
  for (const auto& [number, path] : shard_files(folder)) {
    try {
      ShardContent content = open_shard(path);
      if (content.layout == layout && content.key == key)
        usable.push_back(std::move(content));
      else
        log_warning("shard " + path.string() + ": made with other settings, not used");
    } catch (const Error& error) {
      log_warning("a damaged shard is not used: " + std::string(error.what()));
    }
  }
  return usable;
}

Json to_json(const SampleInfo& sample) {
  Json json = {{"image", sample.image},
               {"class", sample.class_name},
               {"label", sample.label},
               {"split", sample.split},
               {"defect", sample.defect}};
  if (sample.boxes) json["boxes"] = *sample.boxes;
  return json;
}

std::string table_digest(const std::vector<SampleInfo>& samples,
                         const std::vector<std::vector<std::uint32_t>>& checksums) {
  Json table = Json::array();
  for (const SampleInfo& sample : samples) table.push_back(to_json(sample));
  try {
    return sha256_hex(canonical_json({{"samples", table}, {"checksums", checksums}}));
  } catch (const Json::exception& error) {  // not UTF-8
    throw Error("shards", std::string("a sample's name, class, split, defect or boxes: ") + told(error));
  }
}

std::string temporary_shard_prefix() { return ".shard."; }

std::uint32_t chunk_checksum(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(
      crc32_z(crc32_z(0, nullptr, 0), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

}  // namespace filo
