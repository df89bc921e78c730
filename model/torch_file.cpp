#include "model/torch_file.hpp"

#include <caffe2/serialize/inline_container.h>

#include <fstream>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace filo {
namespace {

// The first line of LibTorch's message: the rest is a stack trace.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

constexpr std::size_t largest_pickle_bytes = 64 << 20;

}  // namespace

// The zip, through LibTorch's reader; every size in it is checked before it is used.
class TorchFile::Archive {
 public:
  Archive(const std::filesystem::path& path, std::string where)
      : where_(std::move(where)), file_bytes_(std::filesystem::file_size(path)), reader_(open(path)) {}

  std::string pickle() {
    const auto [data, bytes] = record("data.pkl", largest_pickle_bytes);
    return std::string(static_cast<const char*>(data.get()), bytes);
  }

  void expect_little_endian() {
    if (!reader_->hasRecord("byteorder")) return;
    const auto [data, bytes] = record("byteorder", 16);
    const std::string_view order(static_cast<const char*>(data.get()), bytes);
    if (order != "little") throw UsageError(where_, "its numbers are big-endian, expected little-endian");
  }

  // A tensor of its own. Throws UsageError when it reaches beyond its storage, or the storage beyond its record.
  torch::Tensor read(const PickledTensor& tensor, const std::string& tensor_where) {
    const torch::ScalarType dtype = scalar_type(tensor.storage_type, tensor_where);
    expect_inside(tensor, tensor_where);
    const auto [data, bytes] = record("data/" + tensor.storage_key, file_bytes_);
    if (static_cast<std::size_t>(tensor.storage_elements) > bytes / c10::elementSize(dtype)) {
      throw UsageError(tensor_where, "its storage is cut short: " + std::to_string(bytes) + " bytes, expected " +
                                         std::to_string(tensor.storage_elements) + " elements");
    }
    return torch::from_blob(data.get(), {tensor.storage_elements}, dtype)
        .as_strided(tensor.shape, tensor.strides, tensor.offset)
        .clone(at::MemoryFormat::Contiguous);
  }

 private:
  std::unique_ptr<caffe2::serialize::PyTorchStreamReader> open(const std::filesystem::path& path) const {
    // What torch.save wrote before PyTorch 1.6 begins with a pickled number of 80 bits.
    constexpr std::string_view legacy = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    std::string beginning(legacy.size(), '\0');
    std::ifstream(path, std::ios::binary).read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
    if (beginning == legacy)
      throw UsageError(where_,
                       "is in the format that torch.save had before PyTorch 1.6, expected its zip: save it anew with "
                       "torch.save(torch.load(FILE, map_location=\"cpu\", weights_only=True), NEW)");
    return guarded([&] { return std::make_unique<caffe2::serialize::PyTorchStreamReader>(path.string()); });
  }

  std::pair<c10::DataPtr, std::size_t> record(const std::string& name, std::size_t largest_bytes) {
    return guarded([&] {
      if (reader_->getRecordSize(name) > largest_bytes)
        throw UsageError(where_ + ": " + name, "is larger than it can be");
      auto [data, bytes] = reader_->getRecord(name);
      return std::pair(std::move(data), bytes);
    });
  }

  auto guarded(const auto& action) const -> decltype(action()) {
    try {
      return action();
    } catch (const c10::Error& error) {
      throw UsageError(where_,
                       "not a file of torch.save, or a damaged one: " + first_line(error.what_without_backtrace()));
    }
  }

  static torch::ScalarType scalar_type(const std::string& storage_type, const std::string& where) {
    if (storage_type == "FloatStorage") return torch::kFloat32;
    if (storage_type == "DoubleStorage") return torch::kFloat64;
    if (storage_type == "HalfStorage") return torch::kFloat16;
    if (storage_type == "BFloat16Storage") return torch::kBFloat16;
    throw UsageError(where, "is of " + storage_type + ", expected floating point");
  }

  // The last element, offset + sum (size - 1) stride, must be one of the storage's, and the tensor not larger than the
  // storage (a stride of 0 could name any number of elements).
  static void expect_inside(const PickledTensor& tensor, const std::string& where) {
    std::int64_t last = tensor.offset, count = 1;
    bool fits = true;
    for (std::size_t i = 0; fits && i < tensor.shape.size(); ++i) {
      std::int64_t reach = 0;
      fits = !__builtin_mul_overflow(count, tensor.shape[i], &count);
      if (tensor.shape[i] == 0) continue;
      fits = fits && !__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &reach) &&
             !__builtin_add_overflow(last, reach, &last);
    }
    if (fits && count > 0) fits = last < tensor.storage_elements && count <= tensor.storage_elements;
    if (fits && count == 0) fits = tensor.offset <= tensor.storage_elements;
    if (!fits)
      throw UsageError(where, "shape " + shape_to_string(tensor.shape) + " reaches beyond its storage of " +
                                  std::to_string(tensor.storage_elements) + " elements");
  }

  std::string where_;
  std::size_t file_bytes_;
  std::unique_ptr<caffe2::serialize::PyTorchStreamReader> reader_;
};

TorchFile::TorchFile(const std::filesystem::path& path, std::string_view section, const std::string& where)
    : where_(where) {
  if (!std::filesystem::is_regular_file(path))
    throw UsageError(where, "no such file, expected one that torch.save wrote");
  archive_ = std::make_unique<Archive>(path, where);
  archive_->expect_little_endian();
  entries_ = read_pickled_state_dict(archive_->pickle(), section, where);
}

TorchFile::~TorchFile() = default;

torch::Tensor TorchFile::read(const PickledEntry& entry) const {
  const std::string where = where_ + ": " + entry.name;
  if (!entry.tensor) throw UsageError(where, "is not a tensor");
  const torch::Tensor tensor = archive_->read(*entry.tensor, where);
  expect_finite(tensor, where);
  return tensor;
}

}  // namespace filo
