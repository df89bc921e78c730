#include "checkpoint/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian, and are used as they are");

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t maximum_header_bytes = 100'000'000;  // as the reference implementation
constexpr std::size_t header_alignment = 8;

constexpr std::array<std::pair<std::string_view, std::size_t>, 15> element_sizes = {{{"F64", 8},
                                                                                     {"I64", 8},
                                                                                     {"U64", 8},
                                                                                     {"F32", 4},
                                                                                     {"I32", 4},
                                                                                     {"U32", 4},
                                                                                     {"F16", 2},
                                                                                     {"BF16", 2},
                                                                                     {"I16", 2},
                                                                                     {"U16", 2},
                                                                                     {"F8_E4M3", 1},
                                                                                     {"F8_E5M2", 1},
                                                                                     {"I8", 1},
                                                                                     {"U8", 1},
                                                                                     {"BOOL", 1}}};

std::string where(const fs::path& path) { return "safetensors: " + path.string(); }
std::string where(const fs::path& path, std::string_view tensor) { return where(path) + ": " + std::string(tensor); }

// Empty when a dimension is negative or the product does not fit.
std::optional<std::size_t> byte_count(std::span<const std::int64_t> shape, std::size_t element_size) {
  if (std::ranges::any_of(shape, [](std::int64_t size) { return size < 0; })) return std::nullopt;
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  std::size_t bytes = element_size;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(size), &bytes)) return std::nullopt;
  }
  if (bytes > static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
  return bytes;
}

class MappedFile {
 public:
  explicit MappedFile(const fs::path& path) {
    const FileDescriptor file = open_file(path, O_RDONLY);
    struct stat status {};
    if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) throw Error(where(path), "not a regular file");
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;
    void* address = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (address == MAP_FAILED) throw Error(where(path), std::string("cannot be mapped: ") + std::strerror(errno));
    address_ = address;
  }
  ~MappedFile() {
    if (address_ != nullptr) munmap(address_, size_);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(address_), size_}; }

 private:
  void* address_ = nullptr;
  std::size_t size_ = 0;
};

// Parses the header, refusing duplicate keys (a JSON parser would keep one of them silently).
Json parse_header(std::string_view text, const fs::path& path) {
  if (!text.starts_with('{')) {
    const std::string first = text.empty() ? "nothing" : "\"" + printable(text.substr(0, 1)) + "\"";
    throw Error(where(path), "the header begins with " + first + ", expected \"{\"");
  }
  std::vector<std::set<std::string>> keys;
  const auto refuse_duplicates = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      throw Error(where(path, value.get<std::string>()), "the name is in the header twice");
    }
    return true;
  };
  try {
    return Json::parse(text, refuse_duplicates);
  } catch (const Json::exception& error) {
    throw Error(where(path), std::string("the header is not valid JSON: ") + told(error));
  }
}

std::int64_t non_negative_integer(const Json& value, const fs::path& path, std::string_view tensor, const char* key) {
  const bool fits = value.is_number_unsigned() &&
                    value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!fits)
    throw Error(where(path, tensor), std::string(key) + ": found " + value.dump() + ", expected an integer >= 0");
  return value.get<std::int64_t>();
}

const Json& member(const Json& object, const char* key, Json::value_t type, const fs::path& path,
                   std::string_view tensor) {
  const auto found = object.find(key);
  if (found == object.end() || found->type() != type) {
    throw Error(where(path, tensor), std::string("header entry has no valid '") + key + "'");
  }
  return *found;
}

struct Entry {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::size_t begin = 0, end = 0;
};

Entry parse_entry(const std::string& name, const Json& json, std::size_t data_bytes, const fs::path& path) {
  if (!json.is_object()) throw Error(where(path, name), "header entry is not an object");
  Entry entry;
  entry.name = name;
  entry.dtype = member(json, "dtype", Json::value_t::string, path, name).get<std::string>();
  const std::size_t element_size = safetensors_element_size(entry.dtype);
  if (element_size == 0) throw Error(where(path, name), "unknown dtype '" + entry.dtype + "'");
  for (const Json& size : member(json, "shape", Json::value_t::array, path, name)) {
    entry.shape.push_back(non_negative_integer(size, path, name, "shape"));
  }
  const Json& offsets = member(json, "data_offsets", Json::value_t::array, path, name);
  if (offsets.size() != 2) throw Error(where(path, name), "data_offsets: expected [begin, end]");
  entry.begin = static_cast<std::size_t>(non_negative_integer(offsets[0], path, name, "data_offsets"));
  entry.end = static_cast<std::size_t>(non_negative_integer(offsets[1], path, name, "data_offsets"));
  if (entry.begin > entry.end || entry.end > data_bytes) {
    throw Error(where(path, name), "data_offsets: found " + offsets.dump() + ", but the file holds " +
                                       std::to_string(data_bytes) + " bytes of data (is it cut short?)");
  }
  if (entry.begin % element_size != 0) {
    throw Error(where(path, name), "misaligned: its data begins at byte " + std::to_string(entry.begin) +
                                       ", expected a multiple of " + std::to_string(element_size) + " for " +
                                       entry.dtype);
  }
  const auto expected = byte_count(entry.shape, element_size);
  if (!expected || *expected != entry.end - entry.begin) {
    throw Error(where(path, name), "found " + std::to_string(entry.end - entry.begin) + " bytes, expected " +
                                       (expected ? std::to_string(*expected) : std::string("more than fits")) +
                                       " for " + entry.dtype + " " + shape_to_string(entry.shape));
  }
  return entry;
}

void expect_contiguous(std::vector<Entry> entries, std::size_t data_bytes, const fs::path& path) {
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::size_t position = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != position) {
      throw Error(where(path, entry.name), std::string(entry.begin < position ? "overlaps" : "leaves a gap after") +
                                               " the tensor before it: begins at " + std::to_string(entry.begin) +
                                               ", expected " + std::to_string(position));
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    throw Error(where(path),
                "holds " + std::to_string(data_bytes) + " bytes of data, its tensors need " + std::to_string(position));
  }
}

}  // namespace

struct SafetensorsFile::Content {
  explicit Content(const fs::path& file) : path(file), mapping(file) {}
  fs::path path;
  MappedFile mapping;
  std::map<std::string, TensorView, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
};

std::size_t safetensors_element_size(std::string_view dtype) {
  const auto found = std::ranges::find(element_sizes, dtype, &std::pair<std::string_view, std::size_t>::first);
  return found == element_sizes.end() ? 0 : found->second;
}

std::string shape_to_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

SafetensorsFile SafetensorsFile::open(const fs::path& path) {
  auto content = std::make_shared<Content>(path);
  const std::span<const std::byte> bytes = content->mapping.bytes();
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) throw Error(where(path), "too short to be a safetensors file");
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  const std::size_t rest = bytes.size() - sizeof header_bytes;
  if (header_bytes > maximum_header_bytes || header_bytes > rest) {
    throw Error(where(path), "header of " + std::to_string(header_bytes) + " bytes in a file of " +
                                 std::to_string(bytes.size()) + ": not a safetensors file, or cut short");
  }
  const char* header_begin = reinterpret_cast<const char*>(bytes.data() + sizeof header_bytes);
  const Json header = parse_header(std::string_view(header_begin, header_bytes), path);
  const std::span<const std::byte> data = bytes.subspan(sizeof header_bytes + header_bytes);

  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") {
      if (!json.is_object()) throw Error(where(path, name), "expected an object of strings");
      for (const auto& [key, value] : json.items()) {
        if (!value.is_string()) throw Error(where(path, name), "'" + key + "' is not a string");
        content->metadata[key] = value.get<std::string>();
      }
      continue;
    }
    entries.push_back(parse_entry(name, json, data.size(), path));
  }
  expect_contiguous(entries, data.size(), path);
  for (Entry& entry : entries) {
    const auto view = data.subspan(entry.begin, entry.end - entry.begin);
    content->tensors[entry.name] = TensorView{std::move(entry.dtype), std::move(entry.shape), view};
  }
  return SafetensorsFile(std::move(content));
}

const fs::path& SafetensorsFile::path() const { return content_->path; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return content_->metadata; }
bool SafetensorsFile::contains(std::string_view name) const { return content_->tensors.contains(name); }

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, view] : content_->tensors) names.push_back(name);
  return names;
}

TensorView SafetensorsFile::at(std::string_view name) const {
  const auto found = content_->tensors.find(name);
  if (found == content_->tensors.end()) {
    throw Error(where(path(), name), "no such tensor" + did_you_mean(name, names()));
  }
  return found->second;
}

void write_safetensors(const fs::path& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata, Sha256* digest) {
  std::vector<std::pair<std::size_t, const std::string*>> order;
  for (const auto& [name, view] : tensors) {
    const std::size_t element_size = safetensors_element_size(view.dtype);
    if (element_size == 0) throw Error(where(path, name), "unknown dtype '" + view.dtype + "'");
    if (name == "__metadata__") throw Error(where(path, name), "not a name that a tensor can have");
    const auto expected = byte_count(view.shape, element_size);
    if (!expected || *expected != view.bytes.size()) {
      throw Error(where(path, name), "has " + std::to_string(view.bytes.size()) + " bytes, not those of " + view.dtype +
                                         " " + shape_to_string(view.shape));
    }
    order.emplace_back(element_size, &name);
  }
  std::ranges::stable_sort(order, std::greater<>(), &std::pair<std::size_t, const std::string*>::first);

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t position = 0;
  for (const auto& [element_size, name] : order) {
    const TensorView& view = tensors.at(*name);
    header[*name] = {
        {"dtype", view.dtype}, {"shape", view.shape}, {"data_offsets", {position, position + view.bytes.size()}}};
    position += view.bytes.size();
  }
  std::string text = header.dump();
  text.append((header_alignment - text.size() % header_alignment) % header_alignment, ' ');
  if (text.size() > maximum_header_bytes) throw Error(where(path), "the header would be longer than readers accept");
  const std::uint64_t header_bytes = text.size();
  std::string start(sizeof header_bytes, '\0');
  std::memcpy(start.data(), &header_bytes, sizeof header_bytes);

  std::vector<std::string_view> pieces = {start, text};
  for (const auto& [element_size, name] : order) {
    const std::span<const std::byte> bytes = tensors.at(*name).bytes;
    pieces.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  if (digest != nullptr)
    for (const std::string_view piece : pieces) digest->update(piece);
  write_file_atomically(path, pieces);
}

}  // namespace filo
