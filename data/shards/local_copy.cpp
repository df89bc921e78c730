#include "data/shards/local_copy.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"
#include "data/shards/format.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr auto in_use_for = std::chrono::minutes(10);
constexpr int copying_threads = 4;
constexpr std::size_t piece = std::size_t{8} << 20;
constexpr std::uintmax_t spare = std::uintmax_t{256} << 20;  // left to others

fs::path copies_folder(const fs::path& disk) { return disk / "filo-features"; }

struct Copy {
  fs::path folder;
  fs::file_time_type used;
};

// The longest unused first.
std::vector<Copy> unused_copies(const fs::path& disk) {
  std::vector<Copy> copies;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(copies_folder(disk), error)) {
    const auto used = fs::last_write_time(local_copy_in_use(entry.path()), error);
    if (!error && fs::file_time_type::clock::now() - used > in_use_for) copies.push_back({entry.path(), used});
  }
  std::ranges::sort(copies, {}, &Copy::used);
  return copies;
}

bool make_room(const fs::path& disk, std::uintmax_t bytes) {
  const auto has_room = [&] { return fs::space(disk).available >= bytes + spare; };
  for (const Copy& copy : unused_copies(disk)) {
    if (has_room()) return true;
    log_info("local copy: " + copy.folder.string() + " is removed to make room");
    std::error_code ignored;
    fs::remove_all(copy.folder, ignored);
  }
  return has_room();
}

// Whole under its name, or not at all. Not synced: after a crash of the machine its size or digest tells.
void copy_shard(const Manifest::Shard& shard, const fs::path& to) {
  const std::string where = "shard " + shard.path.string();
  const fs::path temporary = to.string() + "." + std::to_string(getpid()) + ".tmp";
  const FileDescriptor from = open_file(shard.path, O_RDONLY);
  Sha256 sum;
  std::uint64_t at = 0;
  try {
    const FileDescriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    std::vector<std::byte> bytes(piece);
    for (;;) {
      const std::size_t got = read_at(from.get(), bytes, at, where);
      const std::span<const std::byte> read(bytes.data(), got);
      sum.update(read);
      write_all(file.get(), {reinterpret_cast<const char*>(read.data()), read.size()}, temporary);
      at += got;
      if (got < bytes.size()) break;
    }
    if (at != shard.bytes || (!shard.sha256.empty() && sum.hex() != shard.sha256))
      throw ShardDamage(where, "is not what its manifest says", shard.path.string());
    fs::rename(temporary, to);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

bool is_there(const Manifest::Shard& shard, const fs::path& copy) {
  std::error_code error;
  return fs::file_size(copy / shard.path.filename(), error) == shard.bytes && !error;
}

}  // namespace

fs::path local_copy_in_use(const fs::path& copy) { return copy / "used"; }

fs::path local_copy_folder(const fs::path& folder, const fs::path& disk) {
  return copies_folder(disk) /
         (folder.filename().string() + "-" + sha256_hex_of_file(features_manifest(folder)).substr(0, 16));
}

bool make_local_copy(const fs::path& folder, const fs::path& disk, const Progress& progress) {
  const Manifest manifest = read_manifest(folder);
  const fs::path copy = local_copy_folder(folder, disk);
  std::error_code error;
  fs::create_directories(copy, error);
  if (error) throw Error("local copy: " + copy.string(), "cannot be made: " + error.message());
  write_file_atomically(local_copy_in_use(copy), std::string_view());

  std::vector<const Manifest::Shard*> missing;
  std::uintmax_t bytes = 0;
  for (const auto& shard : manifest.shards) {
    if (is_there(shard, copy)) continue;
    missing.push_back(&shard);
    bytes += shard.bytes;
  }
  if (!missing.empty() && !make_room(disk, bytes)) {
    log_warning("local copy: " + disk.string() + " has no room for " + std::to_string(bytes >> 20) +
                " MiB: " + folder.string() + " is read where it lies");
    fs::remove_all(copy, error);
    return false;
  }
  parallel_for(
      missing.size(), copying_threads,
      [&](std::size_t i) { copy_shard(*missing[i], copy / missing[i]->path.filename()); }, progress);
  write_file_atomically(features_manifest(copy), read_file(features_manifest(folder)));
  return true;
}

}  // namespace filo
