// Inside data/ only: HDF5's C API with handles that close themselves and return values that throw.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace filo::hdf5 {

// The library is not thread-safe: every use of it holds this. Recursive, so that handles can close under it. The first
// lock silences HDF5's own printing.
std::unique_lock<std::recursive_mutex> lock();

// Throws Error "`where`: `operation` failed: what HDF5 said" when `code` is negative; else returns it.
template <typename Code>
Code check(Code code, const std::string& where, const char* operation);
[[noreturn]] void fail(const std::string& where, const char* operation);

class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Close close, const std::string& where, const char* operation)
      : id_(check(id, where, operation)), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept;
  ~Handle() { reset(); }

  hid_t get() const { return id_; }
  // Closes; returns HDF5's code (for a file: whether all of it was written).
  herr_t reset();

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

// How files are made and opened: without flock(2), which many NFS and Lustre mounts do not have. Nobody needs the lock:
// writers' files have names of their own, and what is read is never written again.
Handle file_access(const std::string& where);

// IEEE binary16, little-endian: what h5py calls float16.
Handle half_type(const std::string& where);

// Strings are of fixed length, padded with zeros, UTF-8: HDF5 1.10 keeps those of variable length in heaps without
// checksums, and reading such a heap after damage can crash the library.

void write_string_attribute(hid_t object, const char* name, const std::string& value, const std::string& where);
std::string read_string_attribute(hid_t object, const char* name, const std::string& where);

// One-dimensional data sets of strings, and small arrays in one piece.
void write_strings(hid_t file, const char* name, const std::vector<std::string>& values, const std::string& where);
void write_array(hid_t file, const char* name, hid_t file_type, hid_t memory_type, const std::vector<hsize_t>& dims,
                 const void* data, const std::string& where);

// Open an existing data set whose dimensions must be `dims`.
Handle open_dataset(hid_t file, const std::string& name, const std::vector<hsize_t>& dims, const std::string& where);
// Throws Error when there are more bytes of strings than `max_bytes` (the file's size): a damaged type asks for any
// amount.
std::vector<std::string> read_strings(hid_t file, const std::string& name, hsize_t count, std::uint64_t max_bytes,
                                      const std::string& where);

template <typename Code>
Code check(Code code, const std::string& where, const char* operation) {
  if (code < 0) fail(where, operation);
  return code;
}

}  // namespace filo::hdf5
