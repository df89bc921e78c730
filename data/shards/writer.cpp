#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"
#include "data/shards/format.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

fs::path temporary_shard(const fs::path& folder, int rank) {
  static std::atomic<unsigned> counter{0};
  return folder / (temporary_shard_prefix() + host_name() + "." + std::to_string(getpid()) + "." +
                   std::to_string(rank) + "." + std::to_string(counter++) + ".tmp");
}

// What processes of this machine that are gone left: a shard is up to a gigabyte.
void remove_leftovers_of_the_dead(const fs::path& folder) {
  const std::string prefix = temporary_shard_prefix() + host_name() + ".";
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(".tmp")) continue;
    const long pid = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
    if (pid > 0 && kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) unlink(entry.path().c_str());
  }
}

void check_text(const std::string& text, const std::string& where, const char* what) {
  if (text.find('\0') != std::string::npos) throw Error(where, std::string(what) + ": holds a zero byte");
}

void check_layers(const std::map<int, std::vector<std::uint16_t>>& tensors, const std::vector<int>& layers,
                  const std::string& where, const std::string& kind) {
  for (const auto& [layer, values] : tensors)
    if (std::find(layers.begin(), layers.end(), layer) == layers.end())
      throw Error(where, kind + "/" + std::to_string(layer) + " found, which the layout does not have");
  for (const int layer : layers)
    if (!tensors.contains(layer)) throw Error(where, kind + "/" + std::to_string(layer) + " is missing");
}

// In the order of shard_tensors(layout).
std::vector<std::span<const std::byte>> tensor_bytes(const FeatureSample& sample, const FeatureLayout& layout) {
  std::vector<std::span<const std::byte>> bytes = {std::as_bytes(std::span(sample.global))};
  for (const int layer : layout.qkv_layers) bytes.push_back(std::as_bytes(std::span(sample.qkv.at(layer))));
  for (const int layer : layout.vv_layers) bytes.push_back(std::as_bytes(std::span(sample.vv.at(layer))));
  bytes.push_back(std::as_bytes(std::span(sample.mask)));
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
  const auto bytes = tensor_bytes(sample, layout);
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (bytes[i].size() != tensors[i].bytes)
      throw Error(where, tensors[i].name + ": " + std::to_string(bytes[i].size()) + " bytes found, expected " +
                             std::to_string(tensors[i].bytes));
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
    const auto bytes = tensor_bytes(sample, layout);
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
    std::vector<std::int32_t> labels;
    for (const SampleInfo& sample : samples) labels.push_back(sample.label);
    hdf5::write_array(id, "label", H5T_STD_I32LE, H5T_NATIVE_INT32, {labels.size()}, labels.data(), where);
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

ShardWriter::ShardWriter(fs::path folder, FeatureLayout layout, Json key, int rank, std::size_t samples_per_shard)
    : folder_(std::move(folder)),
      layout_(std::move(layout)),
      key_(std::move(key)),
      rank_(rank),
      samples_per_shard_(samples_per_shard) {
  if (samples_per_shard < 1 || samples_per_shard > max_samples_per_shard)
    throw Error("shards: " + folder_.string(), "samples per shard found: " + std::to_string(samples_per_shard) +
                                                   ", expected 1 to " + std::to_string(max_samples_per_shard));
  layout_ = feature_layout_from_json(to_json(layout_), "shards: " + folder_.string());
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw Error("shards: " + folder_.string(), "folder cannot be created: " + error.message());
  remove_leftovers_of_the_dead(folder_);
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::append(const FeatureSample& sample) {
  check_sample(sample, layout_, shard_tensors(layout_), "shards: " + folder_.string() + ": " + sample.image);
  if (!open_) open_ = std::make_unique<Open>(temporary_shard(folder_, rank_), layout_, samples_per_shard_);
  open_->append(sample, layout_);
  if (open_->samples.size() == samples_per_shard_) finish_shard();
}

void ShardWriter::close() {
  if (open_) finish_shard();
}

void ShardWriter::finish_shard() {
  const std::unique_ptr<Open> finished = std::move(open_);
  finished->finish(layout_, key_);
  const auto existing = shard_files(folder_);
  for (int number = existing.empty() ? 0 : existing.rbegin()->first + 1; number <= 99999; ++number) {
    const std::string digits = std::to_string(number);
    const fs::path path = folder_ / ("shard-" + std::string(5 - digits.size(), '0') + digits + ".h5");
    if (link(finished->path.c_str(), path.c_str()) == 0) {
      unlink(finished->path.c_str());
      sync_path(folder_);
      return;
    }
    if (errno != EEXIST) throw Error("shard " + path.string(), std::string("link failed: ") + std::strerror(errno));
  }
  throw Error("shards: " + folder_.string(), "shard-99999.h5 is taken, expected at most 100000 shards");
}

std::set<std::string> finished_images(const fs::path& folder, const FeatureLayout& layout, const Json& key) {
  std::set<std::string> images;
  for (const ShardContent& shard : usable_shards(folder, layout, key))
    for (const SampleInfo& sample : shard.samples) images.insert(sample.image);
  return images;
}

void finish_features(const fs::path& folder, const FeatureLayout& layout, const Json& key,
                     const std::vector<std::string>& images) {
  const std::vector<ShardContent> shards = usable_shards(folder, layout, key);
  std::map<std::string, std::pair<std::size_t, std::size_t>> place;  // image -> shard, row
  for (std::size_t shard = 0; shard < shards.size(); ++shard)
    for (std::size_t row = 0; row < shards[shard].samples.size(); ++row)
      place.try_emplace(shards[shard].samples[row].image, shard, row);

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
    Json json = to_json(shards[shard].samples[row]);
    json["shard"] = shard;
    json["row"] = row;
    json["crc32"] = shards[shard].checksums[row];
    samples.push_back(std::move(json));
  }
  if (missing > 0)
    throw Error("shards: " + folder.string(), std::to_string(missing) + " of " + std::to_string(images.size()) +
                                                  " images are in no whole shard, the first is '" + first_missing +
                                                  "'");

  Json files = Json::array(), tensors = Json::array();
  for (const ShardContent& shard : shards)
    files.push_back({{"file", shard.path.filename().string()}, {"bytes", shard.bytes}});
  for (const ShardTensor& tensor : shard_tensors(layout)) tensors.push_back(tensor.name);
  Json manifest = {{"format", shard_format}, {"layout", to_json(layout)}, {"key", key},
                   {"shards", files},        {"tensors", tensors},        {"samples", samples}};
  manifest["digest"] = sha256_hex(canonical_json(manifest));
  write_json(features_manifest(folder), manifest);

  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(temporary_shard_prefix()) && name.ends_with(".tmp")) unlink(entry.path().c_str());
  }
}

}  // namespace filo
