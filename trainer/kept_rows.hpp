// Rows of numbers that take long to compute, in a file that grows: what is finished outlives the process.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace filo {

// The file is one record after another: its first row and its number of rows (two u64), SHA-256 in 64 hex digits of
// these and of the rows, the rows [rows, width] float32; all little-endian. A record that is cut off, damaged or out of
// turn ends what counts. Not thread-safe; one process writes.
class KeptRows {
 public:
  // Reads what is there of `count` rows of `width` numbers. `path`: named after all that they depend on. Whatever is
  // wrong with the file is passed over with a warning, and the rows before it count.
  KeptRows(std::filesystem::path path, std::size_t count, std::size_t width);

  std::size_t size() const { return values_.size() / width_; }  // rows that are there: the first ones
  std::span<const float> values() const { return values_; }     // [size(), width]

  // The next rows, [n, width]: in the file durably when it returns. Throws Error.
  void append(std::span<const float> rows);

 private:
  void read();

  std::filesystem::path path_;
  std::size_t count_, width_;
  std::vector<float> values_;
  std::string good_;      // of a damaged file: the bytes that count
  bool damaged_ = false;  // the next append() writes the file anew
};

}  // namespace filo
