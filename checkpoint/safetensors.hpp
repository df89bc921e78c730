// Safetensors files: named arrays of raw little-endian bytes behind a JSON header (huggingface.co/docs/safetensors).
//
// Reading maps the file and validates all of it before anything is used; files are untrusted. No torch here: see
// model/tensors.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.hpp"

namespace filo {

// One tensor's bytes, contiguous, row-major, little-endian. Does not own them.
struct TensorView {
  std::string dtype;  // as in the format: F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 I16 I8 U64 U32 U16 U8 BOOL
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

// Bytes of one element, or 0 for a dtype that is not in the list above.
std::size_t safetensors_element_size(std::string_view dtype);

// "[3, 224, 224]", for messages.
std::string shape_to_string(std::span<const std::int64_t> shape);

// A file open for reading (mmap, read-only). Thread-safe once open. Views stay valid as long as any copy of the object
// lives.
class SafetensorsFile {
 public:
  // Throws Error naming the file, the tensor and what is wrong: header longer than the file (or than 100 MB), not
  // beginning with '{', not JSON, duplicate names, unknown dtype, negative or overflowing shape, offsets out of range,
  // overlapping, with gaps or no multiple of the element's size (no writer that sorts as the format's does leaves
  // such), or a size that is not shape x dtype. A header whose length is no multiple of 8 is read: old files have it.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const;
  std::vector<std::string> names() const;  // sorted
  bool contains(std::string_view name) const;
  // Throws Error naming the file, the tensor and the nearest name that is there.
  TensorView at(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const;

 private:
  struct Content;
  explicit SafetensorsFile(std::shared_ptr<const Content> content) : content_(std::move(content)) {}
  std::shared_ptr<const Content> content_;
};

// Writes atomically (base/files.hpp); data starts 8-byte aligned. Equal input gives equal bytes: tensors are laid out
// by element size (largest first, so that each is aligned), then by name. Throws Error when a view's size is not shape
// x dtype, or the file cannot be written. `digest`, where given, is fed the file's bytes.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata = {}, Sha256* digest = nullptr);

}  // namespace filo
