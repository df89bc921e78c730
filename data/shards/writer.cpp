#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "data/shards/format.hpp"
#include "data/shards/shard_writer.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view unfinished_prefix = ".shard.";
constexpr std::string_view unfinished_suffix = ".tmp";

template <typename Look>  // look(entry's path, its name)
void each_file(const fs::path& folder, const Look& look) {
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    look(entry->path(), entry->path().filename().string());
  if (error) throw Error("shards: " + folder.string(), "cannot be listed: " + error.message());
}

void check_text(const std::string& text, const std::string& where, const char* what) {
  if (text.find('\0') != std::string::npos) throw Error(where, std::string(what) + ": holds a zero byte");
}

void check_layers(const std::map<int, FeatureMap>& tensors, const std::vector<int>& layers, const std::string& where,
                  const std::string& kind) {
  for (const auto& [layer, map] : tensors)
    if (std::find(layers.begin(), layers.end(), layer) == layers.end())
      throw Error(where, kind + "/" + std::to_string(layer) + " found, which the layout does not have");
  for (const int layer : layers)
    if (!tensors.contains(layer)) throw Error(where, kind + "/" + std::to_string(layer) + " is missing");
}

// A bit a pixel, the highest first.
std::vector<std::byte> packed(const std::vector<std::uint8_t>& mask) {
  std::vector<std::byte> bits((mask.size() + 7) / 8);
  for (std::size_t i = 0; i < mask.size(); ++i) bits[i / 8] |= static_cast<std::byte>(mask[i] << (7 - i % 8));
  return bits;
}

// In the order of shard_tensors(layout).
std::vector<std::span<const std::byte>> tensor_bytes(const FeatureSample& sample, std::span<const std::byte> mask,
                                                     const FeatureLayout& layout) {
  std::vector<std::span<const std::byte>> bytes = {std::as_bytes(std::span(sample.global))};
  const auto map_of = [&](const MapName& map) -> const FeatureMap& {
    return (map.vv ? sample.vv : sample.qkv).at(map.layer);
  };
  const std::vector<MapName> maps = stored_maps(layout);
  for (const MapName& map : maps) bytes.emplace_back(map_of(map).values);
  if (layout.type == FeatureType::int8)
    for (const MapName& map : maps) bytes.push_back(std::as_bytes(std::span(map_of(map).scales)));
  bytes.push_back(mask);
  return bytes;
}

void check_sample(const FeatureSample& sample, const FeatureLayout& layout, const std::vector<ShardTensor>& tensors,
                  const std::string& where) {
  if (sample.image.empty()) throw Error(where, "a sample without a name");
  check_text(sample.image, where, "image");
  check_text(sample.class_name, where, "class");
  check_text(sample.split, where, "split");
  check_text(sample.defect, where, "defect");
  check_text(sample.boxes.value_or(""), where, "boxes");
  check_layers(sample.qkv, layout.qkv_layers, where, "qkv");
  check_layers(sample.vv, layout.vv_layers, where, "vv");
  const auto bytes = tensor_bytes(sample, {}, layout);
  for (std::size_t i = 0; i + 1 < tensors.size(); ++i)
    if (bytes[i].size() != tensors[i].bytes)
      throw Error(where, tensors[i].name + ": " + std::to_string(bytes[i].size()) + " bytes found, expected " +
                             std::to_string(tensors[i].bytes));
  const auto pixels = static_cast<std::size_t>(layout.mask_size) * static_cast<std::size_t>(layout.mask_size);
  if (sample.mask.size() != pixels)
    throw Error(where,
                "mask: " + std::to_string(sample.mask.size()) + " values found, expected " + std::to_string(pixels));
  if (std::any_of(sample.mask.begin(), sample.mask.end(), [](std::uint8_t value) { return value > 1; }))
    throw Error(where, "mask: a value above 1 found, expected 0 or 1");
}

}  // namespace

struct ShardWriter::Open {
  fs::path path;
  std::string where;
  hdf5::Handle file;
  std::vector<ShardTensor> tensors;
  std::vector<hdf5::Handle> datasets;
  std::vector<SampleInfo> samples;
  std::vector<std::vector<std::uint32_t>> checksums;  // [row][tensor]

  Open(fs::path temporary, const FeatureLayout& layout, std::size_t capacity)
      : path(std::move(temporary)), where("shard " + path.string()), tensors(shard_tensors(layout)) {
    const auto held = hdf5::lock();
    const hdf5::Handle access = hdf5::file_access(where);
    // This version's metadata carry checksums of their own.
    hdf5::check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), where, "H5Pset_libver_bounds");
    hdf5::check(H5Pset_alignment(access.get(), 65536, 4096), where, "H5Pset_alignment");
    file = hdf5::Handle(H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access.get()), H5Fclose, where, "H5Fcreate");
    for (const ShardTensor& tensor : tensors) datasets.push_back(create(tensor, capacity));
  }
  ~Open() {
    datasets.clear();
    file.reset();
    if (!path.empty()) unlink(path.c_str());
  }
  Open(const Open&) = delete;
  Open& operator=(const Open&) = delete;

  hdf5::Handle create(const ShardTensor& tensor, std::size_t capacity) {
    const std::string place = where + ": " + tensor.name;
    std::vector<hsize_t> dims = {0}, max_dims = {capacity}, chunk = {1};
    for (auto* sizes : {&dims, &max_dims, &chunk})
      sizes->insert(sizes->end(), tensor.shape.begin(), tensor.shape.end());
    const int rank = static_cast<int>(dims.size());
    const hdf5::Handle space(H5Screate_simple(rank, dims.data(), max_dims.data()), H5Sclose, place, "H5Screate_simple");
    const hdf5::Handle properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, place, "H5Pcreate");
    hdf5::check(H5Pset_chunk(properties.get(), rank, chunk.data()), place, "H5Pset_chunk");
    hdf5::check(H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER), place, "H5Pset_fill_time");
    const hdf5::Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose, place, "H5Pcreate");
    hdf5::check(H5Pset_create_intermediate_group(links.get(), 1), place, "H5Pset_create_intermediate_group");
    const hdf5::Handle type = element_type(tensor.type, place);
    return {H5Dcreate2(file.get(), tensor.name.c_str(), type.get(), space.get(), links.get(), properties.get(),
                       H5P_DEFAULT),
            H5Dclose, place, "H5Dcreate2"};
  }

  void append(const FeatureSample& sample, const FeatureLayout& layout) {
    const auto held = hdf5::lock();
    const std::size_t row = samples.size();
    const std::vector<std::byte> mask = packed(sample.mask);
    const auto bytes = tensor_bytes(sample, mask, layout);
    auto& row_checksums = checksums.emplace_back();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const std::string place = where + ": " + tensors[i].name;
      std::vector<hsize_t> dims = {row + 1}, origin(tensors[i].shape.size() + 1, 0);
      dims.insert(dims.end(), tensors[i].shape.begin(), tensors[i].shape.end());
      origin[0] = row;
      hdf5::check(H5Dset_extent(datasets[i].get(), dims.data()), place, "H5Dset_extent");
      hdf5::check(H5Dwrite_chunk(datasets[i].get(), H5P_DEFAULT, 0, origin.data(), bytes[i].size(), bytes[i].data()),
                  place, "H5Dwrite_chunk");
      row_checksums.push_back(chunk_checksum(bytes[i]));
    }
    samples.push_back(sample);
  }

  void write_tables(const FeatureLayout& layout, const Json& key) {
    const auto column = [this](auto&& of) {
      std::vector<std::string> values;
      for (const SampleInfo& sample : samples) values.push_back(of(sample));
      return values;
    };
    const hid_t id = file.get();
    hdf5::write_strings(id, "images", column([](const SampleInfo& s) { return s.image; }), where);
    hdf5::write_strings(id, "class", column([](const SampleInfo& s) { return s.class_name; }), where);
    hdf5::write_strings(id, "split", column([](const SampleInfo& s) { return s.split; }), where);
    hdf5::write_strings(id, "defect", column([](const SampleInfo& s) { return s.defect; }), where);
    hdf5::write_strings(id, "boxes", column([](const SampleInfo& s) { return s.boxes.value_or(""); }), where);
    if (std::ranges::any_of(samples, [](const SampleInfo& s) { return !s.parts.empty(); }))
      hdf5::write_strings(id, "parts", column([](const SampleInfo& s) { return to_json(s.parts).dump(); }), where);
    std::vector<std::int32_t> labels, masked;
    for (const SampleInfo& sample : samples) {
      labels.push_back(sample.label);
      masked.push_back(sample.masked ? 1 : 0);
    }
    hdf5::write_array(id, "label", H5T_STD_I32LE, H5T_NATIVE_INT32, {labels.size()}, labels.data(), where);
    hdf5::write_array(id, "masked", H5T_STD_I32LE, H5T_NATIVE_INT32, {masked.size()}, masked.data(), where);
    std::vector<std::uint32_t> all;
    for (const auto& row : checksums) all.insert(all.end(), row.begin(), row.end());
    hdf5::write_array(id, "checksums", H5T_STD_U32LE, H5T_NATIVE_UINT32, {samples.size(), tensors.size()}, all.data(),
                      where);
    Json names = Json::array();
    for (const ShardTensor& tensor : tensors) names.push_back(tensor.name);
    const hdf5::Handle table(H5Dopen2(id, "checksums", H5P_DEFAULT), H5Dclose, where + ": checksums", "H5Dopen2");
    hdf5::write_string_attribute(table.get(), "tensors", names.dump(), where);
    hdf5::write_string_attribute(id, "format", std::to_string(shard_format), where);
    hdf5::write_string_attribute(id, "layout", canonical_json(to_json(layout)), where);
    hdf5::write_string_attribute(id, "digest", table_digest(samples, checksums), where);
    hdf5::write_string_attribute(id, "key", canonical_json(key), where);
  }

  // On disk, under its temporary name.
  void finish(const FeatureLayout& layout, const Json& key) {
    const auto held = hdf5::lock();
    write_tables(layout, key);
    for (hdf5::Handle& dataset : datasets) hdf5::check(dataset.reset(), where, "H5Dclose");
    hdf5::check(file.reset(), where, "H5Fclose");
    sync_path(path);
  }
};

namespace {

std::size_t samples_of(std::uint64_t shard_bytes, const FeatureLayout& layout) {
  std::uint64_t bytes = 0;
  for (const ShardTensor& tensor : shard_tensors(layout)) bytes += tensor.bytes;
  const std::uint64_t samples = shard_bytes / std::max<std::uint64_t>(bytes, 1);
  return static_cast<std::size_t>(std::clamp<std::uint64_t>(samples, 1, max_samples_per_shard));
}

int next_shard_number(const fs::path& folder) {
  int next = 0;
  each_file(folder, [&](const fs::path&, const std::string& name) {
    if (const auto number = shard_number(name, true)) next = std::max(next, *number + 1);
  });
  return next;
}

// Of a file that nobody but this writer and remove_unfinished_shards() knows.
void expect_there(const fs::path& unfinished) {
  std::error_code error;
  if (fs::exists(unfinished, error) || error) return;
  throw Error("shard " + unfinished.string(),
              "is gone before it was finished: another builder of this cache has taken over");
}

std::string shard_name(int number) {
  const std::string digits = std::to_string(number);
  return "shard-" + std::string(5 - digits.size(), '0') + digits + ".h5";
}

}  // namespace

Json to_json(const ShardFile& file) {
  return {{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}, {"images", file.images}};
}

ShardFile shard_file_from_json(const Json& json) {
  return {.name = json.at("name"), .bytes = json.at("bytes"), .sha256 = json.at("sha256"), .images = json.at("images")};
}

ShardWriter::ShardWriter(fs::path folder, const FeatureLayout& layout, Json key, std::string name,
                         std::uint64_t shard_bytes)
    : folder_(std::move(folder)),
      layout_(feature_layout_from_json(to_json(layout), "shards: " + folder_.string())),
      key_(std::move(key)),
      name_(std::move(name)),
      samples_per_shard_(samples_of(shard_bytes, layout_)) {
  if (layout_.format != shard_format)
    throw Error("shards: " + folder_.string(), "format " + std::to_string(layout_.format) + " is no longer written");
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw Error("shards: " + folder_.string(), "folder cannot be created: " + error.message());
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::append(const FeatureSample& sample) {
  check_sample(sample, layout_, shard_tensors(layout_), "shards: " + folder_.string() + ": " + sample.image);
  if (!open_) {
    const std::string file = std::string(unfinished_prefix) + name_ + "." + std::to_string(shards_++);
    open_ = std::make_unique<Open>(folder_ / (file + std::string(unfinished_suffix)), layout_, samples_per_shard_);
  }
  open_->append(sample, layout_);
  if (open_->samples.size() == samples_per_shard_) finish_shard();
}

void ShardWriter::close() {
  if (open_) finish_shard();
}

void ShardWriter::finish_shard() {
  const std::unique_ptr<Open> finished = std::move(open_);
  ShardFile file;
  try {
    finished->finish(layout_, key_);
    file.sha256 = sha256_hex_of_file(finished->path);
    file.bytes = fs::file_size(finished->path);
  } catch (const std::exception&) {
    expect_there(finished->path);
    throw;
  }
  for (const SampleInfo& sample : finished->samples) file.images.push_back(sample.image);
  for (int number = next_shard_number(folder_); number <= 99999; ++number) {
    file.name = shard_name(number);
    const fs::path path = folder_ / file.name;
    if (link(finished->path.c_str(), path.c_str()) == 0) {
      unlink(finished->path.c_str());
      sync_path(folder_);
      finished_.push_back(std::move(file));
      return;
    }
    const int failure = errno;
    expect_there(finished->path);
    if (failure != EEXIST) throw Error("shard " + path.string(), std::string("link failed: ") + std::strerror(failure));
  }
  throw Error("shards: " + folder_.string(), "shard-99999.h5 is taken, expected at most 100000 shards");
}

void remove_unfinished_shards(const fs::path& folder) {
  each_file(folder, [](const fs::path& path, const std::string& name) {
    if (name.starts_with(unfinished_prefix) && name.ends_with(unfinished_suffix)) unlink(path.c_str());
  });
}

std::vector<std::string> shard_names(const fs::path& folder) {
  std::vector<std::string> names;
  each_file(folder, [&](const fs::path&, const std::string& name) {
    if (shard_number(name, false)) names.push_back(name);
  });
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<ShardFile> check_shard(const fs::path& path, const FeatureLayout& layout, const Json& key) {
  const std::string where = "shard " + path.string();
  ShardContent content;
  try {
    content = open_shard(path);
  } catch (const Error& error) {
    throw ShardDamage(where, std::string(error.what()), path.string());
  }
  if (content.layout != layout || content.key != key) return std::nullopt;
  const auto tensors = shard_tensors(layout);
  const FileDescriptor file = open_file(path, O_RDONLY);
  ShardFile checked{.name = path.filename().string(), .bytes = content.bytes, .sha256 = {}, .images = {}};
  std::vector<std::byte> chunk;
  for (std::size_t row = 0; row < content.samples.size(); ++row) {
    const std::string& image = content.samples[row].image;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      chunk.resize(tensors[i].bytes);
      const std::string place =
          where + ": " + tensors[i].name + ": row " + std::to_string(row) + ", image '" + image + "'";
      if (read_at(file.get(), chunk, content.offsets[row][i], place) < chunk.size())
        throw ShardDamage(place, "truncated", path.string());
      if (const std::uint32_t found = chunk_checksum(chunk); found != content.checksums[row][i])
        throw ShardDamage(place,
                          "CRC-32 found: " + std::to_string(found) + ", expected " +
                              std::to_string(content.checksums[row][i]) + " (the file was altered)",
                          path.string());
    }
    checked.images.push_back(image);
  }
  checked.sha256 = sha256_hex_of_file(path);
  return checked;
}

void finish_features(const fs::path& folder, const FeatureLayout& layout, const Json& key,
                     const std::vector<std::string>& images, std::vector<ShardFile> shards) {
  std::ranges::sort(shards, {}, &ShardFile::name);
  std::vector<ShardContent> contents;
  std::map<std::string, std::pair<std::size_t, std::size_t>> place;  // image -> shard, row
  for (std::size_t shard = 0; shard < shards.size(); ++shard) {
    contents.push_back(open_shard(folder / shards[shard].name));
    const auto& samples = contents.back().samples;
    for (std::size_t row = 0; row < samples.size(); ++row) place.try_emplace(samples[row].image, shard, row);
  }

  std::size_t missing = 0;
  std::string first_missing;
  Json samples = Json::array();
  std::set<std::string> listed;
  for (const std::string& image : images) {
    if (!listed.insert(image).second)
      throw Error("shards: " + folder.string(), "image '" + image + "' is listed twice");
    const auto found = place.find(image);
    if (found == place.end()) {
      if (missing++ == 0) first_missing = image;
      continue;
    }
    const auto [shard, row] = found->second;
    Json json = to_json(contents[shard].samples[row]);
    json["shard"] = shard;
    json["row"] = row;
    json["crc32"] = contents[shard].checksums[row];
    json["offsets"] = contents[shard].offsets[row];
    samples.push_back(std::move(json));
  }
  if (missing > 0)
    throw Error("shards: " + folder.string(), std::to_string(missing) + " of " + std::to_string(images.size()) +
                                                  " images are in no whole shard, the first is '" + first_missing +
                                                  "'");

  Json files = Json::array(), tensors = Json::array();
  for (const ShardFile& file : shards)
    files.push_back({{"file", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  for (const ShardTensor& tensor : shard_tensors(layout)) tensors.push_back(tensor.name);
  Json manifest = {{"format", shard_format}, {"layout", to_json(layout)}, {"key", key},
                   {"shards", files},        {"tensors", tensors},        {"samples", samples}};
  manifest["digest"] = sha256_hex(canonical_json(manifest));
  write_json(features_manifest(folder), manifest);
}

}  // namespace filo
