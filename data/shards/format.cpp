#include "data/shards/format.hpp"

#include <isa-l/crc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <functional>
#include <map>
#include <utility>

#include "base/error.hpp"
#include "base/hash.hpp"

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

FeatureType checked_type(const Json& json, const std::string& where) {
  try {
    return feature_type_names.value(json);
  } catch (const UsageError&) {
    throw Error(where, "type: found " + json.dump() + ", expected f16, bf16, f32 or int8");
  }
}

// Of a map's values, and the bytes of one.
std::pair<ElementType, std::size_t> element_of(FeatureType type) {
  switch (type) {
    case FeatureType::bf16:
      return {ElementType::u16, 2};
    case FeatureType::f32:
      return {ElementType::f32, 4};
    case FeatureType::int8:
      return {ElementType::i8, 1};
    case FeatureType::f16:
      break;
  }
  return {ElementType::f16, 2};
}

// Names of maps that the layout has, each that of one that is stored.
std::map<std::string, std::string> checked_same_as(const Json& json, FeatureLayout layout, const std::string& where) {
  const auto fail = [&] {
    throw Error(where, "same_as: found " + json.dump() + ", expected names of maps and of those that are stored");
  };
  const auto has = [&](const std::string& name) {
    return std::ranges::any_of(stored_maps(layout), [&](const MapName& map) { return map.name() == name; });
  };
  std::map<std::string, std::string> same_as;
  if (!json.is_object()) fail();
  for (const auto& [name, of] : json.items()) {
    if (!of.is_string() || !has(name) || !has(of) || json.contains(of.get<std::string>())) fail();
    same_as[name] = of;
  }
  return same_as;
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

std::vector<std::int32_t> read_integers(hid_t file, const char* name, hsize_t rows, const std::string& where) {
  std::vector<std::int32_t> values(rows);
  const hdf5::Handle dataset = hdf5::open_dataset(file, name, {rows}, where);
  hdf5::check(H5Dread(dataset.get(), H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()),
              where + ": " + name, "H5Dread");
  return values;
}

std::vector<std::vector<ImagePart>> read_parts(hid_t file, hsize_t rows, std::uint64_t file_bytes,
                                               const std::string& where) {
  std::vector<std::vector<ImagePart>> parts(rows);
  if (hdf5::check(H5Lexists(file, "parts", H5P_DEFAULT), where + ": parts", "H5Lexists") == 0) return parts;
  const auto texts = hdf5::read_strings(file, "parts", rows, file_bytes, where);
  try {
    for (std::size_t row = 0; row < rows; ++row) parts[row] = parts_from_json(Json::parse(texts[row]), where);
  } catch (const Json::exception& error) {
    throw Error(where, "parts: " + told(error));
  }
  return parts;
}

std::vector<SampleInfo> read_samples(hid_t file, int format, hsize_t rows, std::uint64_t file_bytes,
                                     const std::string& where) {
  const auto images = hdf5::read_strings(file, "images", rows, file_bytes, where);
  const auto classes = hdf5::read_strings(file, "class", rows, file_bytes, where);
  const auto splits = hdf5::read_strings(file, "split", rows, file_bytes, where);
  const auto defects = hdf5::read_strings(file, "defect", rows, file_bytes, where);
  const auto boxes = hdf5::read_strings(file, "boxes", rows, file_bytes, where);
  const auto parts = read_parts(file, rows, file_bytes, where);
  const auto labels = read_integers(file, "label", rows, where);
  const auto masked = format == 1 ? std::vector<std::int32_t>(rows, 1) : read_integers(file, "masked", rows, where);
  std::vector<SampleInfo> samples(rows);
  for (std::size_t row = 0; row < rows; ++row)
    samples[row] = {.image = images[row],
                    .class_name = classes[row],
                    .label = labels[row],
                    .split = splits[row],
                    .defect = defects[row],
                    .masked = masked[row] != 0,
                    .boxes = boxes[row].empty() ? std::nullopt : std::optional(boxes[row]),
                    .parts = parts[row]};
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
  Json json = {{"global_size", layout.global_size}, {"patches", layout.patches},     {"width", layout.width},
               {"qkv_layers", layout.qkv_layers},   {"vv_layers", layout.vv_layers}, {"mask_size", layout.mask_size}};
  if (layout.format > 1) json["type"] = feature_type_names.name(layout.type);
  if (!layout.same_as.empty()) json["same_as"] = layout.same_as;
  return json;
}

FeatureLayout feature_layout_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) throw Error(where, "layout: expected an object");
  const bool first_format = !json.contains("type");
  FeatureLayout layout = {.global_size = checked_int(json, where, "global_size", 65536),
                          .patches = checked_int(json, where, "patches", 65536),
                          .width = checked_int(json, where, "width", 65536),
                          .qkv_layers = checked_layers(json, where, "qkv_layers"),
                          .vv_layers = checked_layers(json, where, "vv_layers"),
                          .mask_size = checked_int(json, where, "mask_size", 16384),
                          .type = first_format ? FeatureType::f16 : checked_type(json.at("type"), where),
                          .same_as = {},
                          .format = first_format ? 1 : shard_format};
  if (json.contains("same_as")) layout.same_as = checked_same_as(json.at("same_as"), layout, where);
  return layout;
}

std::vector<MapName> stored_maps(const FeatureLayout& layout) {
  std::vector<MapName> maps;
  for (const int layer : layout.qkv_layers) maps.push_back({false, layer});
  for (const int layer : layout.vv_layers) maps.push_back({true, layer});
  std::erase_if(maps, [&](const MapName& map) { return layout.same_as.contains(map.name()); });
  return maps;
}

MapName stored_map(const FeatureLayout& layout, MapName map) {
  const auto found = layout.same_as.find(map.name());
  if (found == layout.same_as.end()) return map;
  for (const MapName& stored : stored_maps(layout))
    if (stored.name() == found->second) return stored;
  return map;
}

std::vector<ShardTensor> shard_tensors(const FeatureLayout& layout) {
  const auto global = static_cast<hsize_t>(layout.global_size), patches = static_cast<hsize_t>(layout.patches),
             width = static_cast<hsize_t>(layout.width), side = static_cast<hsize_t>(layout.mask_size);
  std::vector<ShardTensor> tensors = {{"global", false, {global}, ElementType::f32, global * sizeof(float)}};
  const std::vector<MapName> maps = stored_maps(layout);
  const auto [type, bytes] = element_of(layout.type);
  for (const MapName& map : maps)
    tensors.push_back({map.name(), true, {patches, width}, type, patches * width * bytes});
  if (layout.type == FeatureType::int8)
    for (const MapName& map : maps)
      tensors.push_back({map.scale_name(), true, {patches}, ElementType::f32, patches * sizeof(float)});
  const hsize_t packed = (side * side + 7) / 8;
  if (layout.format == 1)
    tensors.push_back({"mask", false, {side, side}, ElementType::u8, side * side});
  else
    tensors.push_back({"mask", false, {packed}, ElementType::u8, packed});
  return tensors;
}

hdf5::Handle element_type(ElementType type, const std::string& where) {
  hid_t standard = H5T_STD_U8LE;
  switch (type) {
    case ElementType::f16:
      return hdf5::half_type(where);
    case ElementType::f32:
      standard = H5T_IEEE_F32LE;
      break;
    case ElementType::u16:
      standard = H5T_STD_U16LE;
      break;
    case ElementType::i8:
      standard = H5T_STD_I8LE;
      break;
    case ElementType::u8:
      break;
  }
  return {H5Tcopy(standard), H5Tclose, where, "H5Tcopy"};
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
  const std::string format = hdf5::read_string_attribute(file.get(), "format", where);
  content.layout = feature_layout_from_json(parse_attribute(file.get(), "layout", where), where + ": layout");
  if (format != std::to_string(content.layout.format))
    throw Error(where, "format found: " + format + ", expected " + std::to_string(content.layout.format));
  content.key = parse_attribute(file.get(), "key", where);
  const auto tensors = shard_tensors(content.layout);
  const hsize_t rows = row_count(file.get(), where);
  content.samples = read_samples(file.get(), content.layout.format, rows, content.bytes, where);
  content.checksums = read_checksums(file.get(), rows, tensors.size(), where);
  const std::string expected = hdf5::read_string_attribute(file.get(), "digest", where);
  if (const std::string found = table_digest(content.samples, content.checksums); found != expected)
    throw Error(where, "tables altered: digest found: " + found + ", expected " + expected);
  content.offsets.resize(rows);
  for (const ShardTensor& tensor : tensors) find_chunks(file.get(), tensor, content, where);
  return content;
}

std::optional<int> shard_number(const std::string& file_name, bool set_aside) {
  constexpr std::string_view before = "shard-", after = ".h5";
  constexpr std::size_t digits = 5, length = before.size() + digits + after.size();
  std::string_view name = file_name;
  if (set_aside && name.ends_with(set_aside_suffix)) name.remove_suffix(std::string_view(set_aside_suffix).size());
  if (name.size() != length || !name.starts_with(before) || !name.ends_with(after)) return std::nullopt;
  int number = 0;
  const char* const first = name.data() + before.size();
  const auto [parsed, problem] = std::from_chars(first, first + digits, number);
  if (problem != std::errc() || parsed != first + digits || number < 0) return std::nullopt;
  return number;
}

Json to_json(const SampleInfo& sample) {
  Json json = {{"image", sample.image},
               {"class", sample.class_name},
               {"label", sample.label},
               {"split", sample.split},
               {"defect", sample.defect}};
  if (!sample.masked) json["masked"] = false;
  if (sample.boxes) json["boxes"] = *sample.boxes;
  if (!sample.parts.empty()) json["parts"] = to_json(sample.parts);
  return json;
}

Json to_json(const std::vector<ImagePart>& parts) {
  Json json = Json::array();
  for (const auto& [image, width, height, tile] : parts)
    json.push_back({{"image", image}, {"size", {width, height}}, {"tile", {tile.x, tile.y, tile.width, tile.height}}});
  return json;
}

std::vector<ImagePart> parts_from_json(const Json& json, const std::string& where) {
  std::vector<ImagePart> parts;
  for (const Json& part : json) {
    const auto size = part.at("size").get<std::array<int, 2>>();
    const auto tile = part.at("tile").get<std::array<int, 4>>();
    parts.push_back({.image = part.at("image"),
                     .image_width = size[0],
                     .image_height = size[1],
                     .tile = {tile[0], tile[1], tile[2], tile[3]}});
    const auto inside = [](int begin, int length, int all) {
      return begin >= 0 && length >= 1 && begin <= all - length;
    };
    if (!inside(tile[0], tile[2], size[0]) || !inside(tile[1], tile[3], size[1]))
      throw Error(where, "parts: found " + part.dump() + ", expected a tile inside of the image");
  }
  return parts;
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

std::uint32_t chunk_checksum(std::span<const std::byte> bytes) {
  return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

std::size_t read_at(int file, std::span<std::byte> target, std::uint64_t offset, const std::string& where) {
  std::size_t done = 0;
  while (done < target.size()) {
    const ssize_t got = pread(file, target.data() + done, target.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(where, std::string("read failed: ") + std::strerror(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

}  // namespace filo
