#include "data/shards/hdf5.hpp"

#include <algorithm>
#include <memory>

#include "base/error.hpp"

namespace filo::hdf5 {
namespace {

std::recursive_mutex& mutex() {
  static std::recursive_mutex instance;
  return instance;
}

// The innermost entry of HDF5's error stack says most.
std::string last_message() {
  std::string message;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned depth, const H5E_error2_t* entry, void* text) -> herr_t {
        if (depth == 0 && entry->desc != nullptr) *static_cast<std::string*>(text) = entry->desc;
        return 0;
      },
      &message);
  H5Eclear2(H5E_DEFAULT);
  return message.empty() ? "no reason given" : message;
}

Handle scalar_space(const std::string& where) { return {H5Screate(H5S_SCALAR), H5Sclose, where, "H5Screate"}; }

Handle simple_space(const std::vector<hsize_t>& dims, const std::string& where) {
  return {H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), H5Sclose, where, "H5Screate_simple"};
}

Handle string_type(std::size_t length, const std::string& where) {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose, where, "H5Tcopy");
  check(H5Tset_size(type.get(), std::max<std::size_t>(length, 1)), where, "H5Tset_size");
  check(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), where, "H5Tset_strpad");
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), where, "H5Tset_cset");
  return type;
}

// The length of one string of `type`, which must be of fixed length.
std::size_t string_length(hid_t type, std::uint64_t max_length, const std::string& where) {
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0)
    throw Error(where, "another type found, expected strings of fixed length");
  const std::size_t length = H5Tget_size(type);
  if (length < 1 || length > max_length)
    throw Error(where,
                "strings of " + std::to_string(length) + " bytes found, expected 1 to " + std::to_string(max_length));
  return length;
}

std::string without_padding(const char* text, std::size_t length) {
  return {text, std::find(text, text + length, '\0')};
}

}  // namespace

std::unique_lock<std::recursive_mutex> lock() {
  std::unique_lock held(mutex());
  static const herr_t silenced = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  static_cast<void>(silenced);
  return held;
}

void fail(const std::string& where, const char* operation) {
  throw Error(where, std::string(operation) + " failed: " + last_message());
}

Handle& Handle::operator=(Handle&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, -1);
    close_ = other.close_;
  }
  return *this;
}

herr_t Handle::reset() {
  if (id_ < 0) return 0;
  const auto held = lock();
  return close_(std::exchange(id_, -1));
}

Handle file_access(const std::string& where) {
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, where, "H5Pcreate");
  check(H5Pset_file_locking(access.get(), /*use_file_locking=*/0, /*ignore_when_disabled=*/1), where,
        "H5Pset_file_locking");
  return access;
}

Handle half_type(const std::string& where) {
  Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, where, "H5Tcopy");
  check(H5Tset_fields(type.get(), 15, 10, 5, 0, 10), where, "H5Tset_fields");
  check(H5Tset_size(type.get(), 2), where, "H5Tset_size");
  check(H5Tset_ebias(type.get(), 15), where, "H5Tset_ebias");
  return type;
}

void write_string_attribute(hid_t object, const char* name, const std::string& value, const std::string& where) {
  const Handle type = string_type(value.size(), where), space = scalar_space(where);
  const Handle attribute(H5Acreate2(object, name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose, where,
                         "H5Acreate2");
  check(H5Awrite(attribute.get(), type.get(), value.c_str()), where, "H5Awrite");
}

std::string read_string_attribute(hid_t object, const char* name, const std::string& where) {
  const std::string place = where + ": attribute " + name;
  const Handle attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, place, "H5Aopen");
  const Handle found_type(H5Aget_type(attribute.get()), H5Tclose, place, "H5Aget_type");
  const Handle space(H5Aget_space(attribute.get()), H5Sclose, place, "H5Aget_space");
  if (H5Sget_simple_extent_npoints(space.get()) != 1) throw Error(place, "an array found, expected one string");
  const std::size_t length = string_length(found_type.get(), 1 << 20, place);
  const Handle type = string_type(length, place);
  std::string text(length, '\0');
  check(H5Aread(attribute.get(), type.get(), text.data()), place, "H5Aread");
  return without_padding(text.data(), length);
}

void write_strings(hid_t file, const char* name, const std::vector<std::string>& values, const std::string& where) {
  std::size_t length = 1;
  for (const std::string& value : values) length = std::max(length, value.size());
  std::string texts(length * values.size(), '\0');
  for (std::size_t i = 0; i < values.size(); ++i) values[i].copy(texts.data() + i * length, length);
  const Handle type = string_type(length, where);
  write_array(file, name, type.get(), type.get(), {values.size()}, texts.data(), where);
}

void write_array(hid_t file, const char* name, hid_t file_type, hid_t memory_type, const std::vector<hsize_t>& dims,
                 const void* data, const std::string& where) {
  const std::string place = where + ": " + name;
  const Handle space = simple_space(dims, place);
  const Handle dataset(H5Dcreate2(file, name, file_type, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Dclose,
                       place, "H5Dcreate2");
  check(H5Dwrite(dataset.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), place, "H5Dwrite");
}

Handle open_dataset(hid_t file, const std::string& name, const std::vector<hsize_t>& dims, const std::string& where) {
  const std::string place = where + ": " + name;
  Handle dataset(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, place, "H5Dopen2");
  const Handle space(H5Dget_space(dataset.get()), H5Sclose, place, "H5Dget_space");
  std::vector<hsize_t> found(H5S_MAX_RANK);
  const int rank =
      check(H5Sget_simple_extent_dims(space.get(), found.data(), nullptr), place, "H5Sget_simple_extent_dims");
  found.resize(static_cast<std::size_t>(rank));
  if (found != dims) {
    const auto text = [](const std::vector<hsize_t>& sizes) {
      std::string joined;
      for (const hsize_t size : sizes) joined += (joined.empty() ? "" : ", ") + std::to_string(size);
      return "[" + joined + "]";
    };
    throw Error(place, "shape found: " + text(found) + ", expected " + text(dims));
  }
  return dataset;
}

std::vector<std::string> read_strings(hid_t file, const std::string& name, hsize_t count, std::uint64_t max_bytes,
                                      const std::string& where) {
  const std::string place = where + ": " + name;
  const Handle dataset = open_dataset(file, name, {count}, where);
  const Handle found_type(H5Dget_type(dataset.get()), H5Tclose, place, "H5Dget_type");
  const std::size_t length = string_length(found_type.get(), max_bytes / std::max<hsize_t>(count, 1), place);
  const Handle type = string_type(length, place);
  std::string texts(length * count, '\0');
  check(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, texts.data()), place, "H5Dread");
  std::vector<std::string> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(without_padding(texts.data() + i * length, length));
  return values;
}

}  // namespace filo::hdf5
