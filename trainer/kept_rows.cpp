#include "trainer/kept_rows.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"

namespace filo {
namespace {

using Header = std::array<std::uint64_t, 2>;  // first row, rows
constexpr std::size_t digest_bytes = 64;

std::string_view bytes_of(std::span<const float> rows) {
  return {reinterpret_cast<const char*>(rows.data()), rows.size_bytes()};
}

std::string_view bytes_of(const Header& header) {
  return {reinterpret_cast<const char*>(header.data()), sizeof header};
}

std::string digest_of(const Header& header, std::string_view rows) {
  Sha256 sum;
  sum.update(bytes_of(header));
  sum.update(rows);
  return sum.hex();
}

}  // namespace

KeptRows::KeptRows(std::filesystem::path path, std::size_t count, std::size_t width)
    : path_(std::move(path)), count_(count), width_(width) {
  if (std::error_code error; !std::filesystem::exists(path_, error) && !error) return;
  try {
    read();
  } catch (const Error& error) {
    damaged_ = true;
    log_warning(error.what());
  }
}

void KeptRows::read() {
  const std::string bytes = read_file(path_);
  std::string_view rest = bytes;
  while (!rest.empty()) {
    Header header{};
    const bool has_header = rest.size() >= sizeof header + digest_bytes;
    if (has_header) std::memcpy(header.data(), rest.data(), sizeof header);
    const auto [first, rows] = header;
    const bool in_turn = first == size() && rows > 0 && rows <= count_ - size();
    const std::size_t body = in_turn ? rows * width_ * sizeof(float) : 0;
    const std::string_view data = rest.substr(std::min(rest.size(), sizeof header + digest_bytes)).substr(0, body);
    if (!has_header || !in_turn || data.size() < body ||
        rest.substr(sizeof header, digest_bytes) != digest_of(header, data)) {
      good_ = bytes.substr(0, bytes.size() - rest.size());
      throw Error("kept rows: " + path_.string(), "damaged or cut off after row " + std::to_string(size()) + " of " +
                                                      std::to_string(count_) +
                                                      "; the rows before it count, the others are computed again");
    }
    const std::size_t before = values_.size();
    values_.resize(before + rows * width_);
    std::memcpy(values_.data() + before, data.data(), body);
    rest.remove_prefix(sizeof header + digest_bytes + body);
  }
}

void KeptRows::append(std::span<const float> rows) {
  const Header header = {size(), rows.size() / width_};
  std::string record(bytes_of(header));
  record += digest_of(header, bytes_of(rows));
  record += bytes_of(rows);
  const bool is_new = !std::filesystem::exists(path_);
  if (is_new) std::filesystem::create_directories(path_.parent_path());
  if (damaged_) write_file_atomically(path_, good_);
  damaged_ = false;
  const FileDescriptor file = open_file(path_, O_WRONLY | O_APPEND | O_CREAT);
  write_all(file.get(), record, path_);
  sync_path(path_);
  if (is_new) sync_path(path_.parent_path());
  values_.insert(values_.end(), rows.begin(), rows.end());
}

}  // namespace filo
