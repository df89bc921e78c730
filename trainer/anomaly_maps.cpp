#include "trainer/anomaly_maps.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/error.hpp"

namespace filo {
namespace {

constexpr std::size_t bytes_per_pixel = sizeof(float) + sizeof(std::uint8_t);

[[noreturn]] void fail(const std::filesystem::path& folder, const std::string& what, int error) {
  throw Error("metrics: temporary file in " + folder.string(), what + ": " + std::strerror(error));
}

// Has no name any more.
FileDescriptor temporary_file(const std::filesystem::path& folder, std::size_t bytes) {
  std::filesystem::create_directories(folder);
  std::string path = (folder / "anomaly-maps-XXXXXX").string();
  FileDescriptor file(mkostemp(path.data(), O_CLOEXEC));
  if (!file.valid()) fail(folder, "cannot be made", errno);
  unlink(path.c_str());
  if (fallocate(file.get(), 0, 0, static_cast<off_t>(bytes)) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    fail(folder, "needs " + std::to_string(bytes >> 20) + " MiB", errno);
  return file;
}

// `transfer`: pread or pwrite.
template <typename Transfer, typename Bytes>
void transfer_all(const Transfer& transfer, int file, Bytes* bytes, std::size_t size, std::size_t at,
                  const std::filesystem::path& folder) {
  while (size > 0) {
    const ssize_t done = transfer(file, bytes, size, static_cast<off_t>(at));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail(folder, "is not read or written", done < 0 ? errno : EIO);
    bytes += done;
    size -= static_cast<std::size_t>(done);
    at += static_cast<std::size_t>(done);
  }
}

}  // namespace

std::size_t AnomalyMaps::held_bytes(std::size_t images, std::size_t area, std::size_t memory_bytes) {
  const std::size_t bytes = images * area * bytes_per_pixel;
  return bytes <= memory_bytes / 4 * 3 ? bytes : 0;
}

std::size_t AnomalyMaps::spilled_bytes(std::size_t images, std::size_t area, std::size_t memory_bytes) {
  return images * area * bytes_per_pixel - held_bytes(images, area, memory_bytes);
}

AnomalyMaps::AnomalyMaps(std::size_t images, std::size_t height, std::size_t width, const MapsStorage& storage)
    : height_(height), width_(width), memory_bytes_(storage.memory_bytes), defects_(images), folder_(storage.folder) {
  if (height == 0 || width == 0 || width > std::numeric_limits<std::uint32_t>::max() / height)
    throw Error("metrics", "maps of " + std::to_string(height) + " x " + std::to_string(width) +
                               " pixels found, expected at least one and below 2^32");
  if (const std::size_t bytes = spilled_bytes(images, area(), memory_bytes_); bytes > 0) {
    file_ = temporary_file(folder_, bytes);
  } else {
    maps_.resize(images * area());
    masks_.resize(images * area());
  }
}

std::size_t AnomalyMaps::working_bytes() const { return memory_bytes_ - maps_.size() * sizeof(float) - masks_.size(); }

void AnomalyMaps::put(std::size_t image, std::span<const float> map, std::span<const std::uint8_t> mask,
                      const std::string& name) {
  if (image >= images() || map.size() != area() || mask.size() != area())
    throw Error("metrics: " + name, "a map of " + std::to_string(map.size()) + " and a mask of " +
                                        std::to_string(mask.size()) + " pixels found, expected " +
                                        std::to_string(height_) + " x " + std::to_string(width_));
  std::uint32_t defects = 0;
  for (std::size_t i = 0; i < area(); ++i) {
    if (std::isnan(map[i]))
      throw Error("metrics: " + name, "pixel " + std::to_string(i) + " of its anomaly map is NaN, expected a number");
    if (mask[i] > 1)
      throw Error("metrics: " + name, "pixel " + std::to_string(i) + " of its mask found: " + std::to_string(mask[i]) +
                                          ", expected 0 or 1");
    lowest_ = std::min(lowest_, map[i]);
    highest_ = std::max(highest_, map[i]);
    defects += mask[i];
  }
  defects_[image] = defects;
  if (!is_spilled()) {
    std::copy(map.begin(), map.end(), maps_.begin() + static_cast<std::ptrdiff_t>(image * area()));
    std::copy(mask.begin(), mask.end(), masks_.begin() + static_cast<std::ptrdiff_t>(image * area()));
    return;
  }
  const std::size_t at = image * area() * bytes_per_pixel;
  transfer_all(pwrite, file_.get(), reinterpret_cast<const char*>(map.data()), map.size_bytes(), at, folder_);
  transfer_all(pwrite, file_.get(), reinterpret_cast<const char*>(mask.data()), mask.size(), at + map.size_bytes(),
               folder_);
}

AnomalyMaps::Image AnomalyMaps::read(std::size_t image, Buffer& buffer) const {
  if (!is_spilled())
    return {std::span(maps_).subspan(image * area(), area()), std::span(masks_).subspan(image * area(), area())};
  buffer.map.resize(area());
  buffer.mask.resize(area());
  const std::size_t at = image * area() * bytes_per_pixel, map_bytes = area() * sizeof(float);
  transfer_all(pread, file_.get(), reinterpret_cast<char*>(buffer.map.data()), map_bytes, at, folder_);
  transfer_all(pread, file_.get(), reinterpret_cast<char*>(buffer.mask.data()), area(), at + map_bytes, folder_);
  return {buffer.map, buffer.mask};
}

}  // namespace filo
