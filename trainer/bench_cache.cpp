#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <span>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/random.hpp"
#include "cluster/resource_use.hpp"
#include "data/parallel.hpp"
#include "data/sampler.hpp"
#include "data/shards/prefetcher.hpp"
#include "data/shards/shard_writer.hpp"
#include "trainer/benchmarks.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

using Batches = std::vector<std::vector<std::size_t>>;

template <typename Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

FeatureLayout bench_layout(int side) {
  FeatureLayout layout;
  layout.patches = side * side;
  layout.qkv_layers = {6, 12, 18, 24};
  layout.vv_layers = {12, 18, 24};
  layout.mask_size = 14 * side;
  return layout;
}

// Random bytes: nothing is read into numbers here.
void write_cache(const BenchCacheOptions& options, const FeatureLayout& layout) {
  ShardWriter writer(options.folder, layout, {{"made", "by bench cache"}}, "bench");
  std::vector<std::string> images;
  FeatureSample sample;
  Random random(0, "bench cache");
  sample.class_name = "bench";
  sample.split = "test";
  sample.global.resize(static_cast<std::size_t>(layout.global_size));
  sample.mask.resize(static_cast<std::size_t>(layout.mask_size) * static_cast<std::size_t>(layout.mask_size));
  const auto fill = [&](std::map<int, FeatureMap>& maps, const std::vector<int>& layers) {
    for (const int layer : layers) {
      auto& values = maps[layer].values;
      values.resize(static_cast<std::size_t>(layout.patches) * static_cast<std::size_t>(layout.width) * 2);
      for (std::size_t i = 0; i < values.size(); i += 8) {
        const std::uint64_t bits = random.next();
        std::copy_n(reinterpret_cast<const std::byte*>(&bits), std::min<std::size_t>(8, values.size() - i),
                    values.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  };
  for (std::size_t i = 0; i < options.samples; ++i) {
    sample.image = std::to_string(i) + ".png";
    images.push_back(sample.image);
    fill(sample.qkv, layout.qkv_layers);
    fill(sample.vv, layout.vv_layers);
    writer.append(sample);
  }
  writer.close();
  finish_features(options.folder, layout, {{"made", "by bench cache"}}, images, writer.finished());
}

// Every sample once, in a random order, another one each round.
Batches batches_of_round(const BenchCacheOptions& options, int round) {
  const EpochSampler sampler({.count = options.samples}, static_cast<std::size_t>(options.batch), 0, 1, 0);
  Batches batches;
  for (std::size_t step = 0; step < sampler.steps_per_epoch(); ++step)
    batches.push_back(sampler.global_batch(round, step));
  return batches;
}

void read_all(const ShardReader& reader, const Batches& batches, int threads) {
  Prefetcher prefetcher(reader, batches, {.threads = threads});
  while (prefetcher.next()) {
  }
}

// Where each sample's bytes lie: one piece in its shard, since its chunks are read one after another anyway.
struct Piece {
  int file = -1;
  std::uint64_t offset = 0;
  std::size_t bytes = 0;
};

class RawFiles {
 public:
  RawFiles(const fs::path& folder, const std::vector<std::size_t>& sizes) {
    const Json manifest = read_json(features_manifest(folder));
    for (const Json& shard : manifest.at("shards"))
      files_.push_back(open_file(folder / shard.at("file").get<std::string>(), O_RDONLY));
    for (const Json& sample : manifest.at("samples")) {
      auto& pieces = samples_.emplace_back();
      for (std::size_t i = 0; i < sizes.size(); ++i)
        pieces.push_back({files_[sample.at("shard").get<std::size_t>()].get(), sample.at("offsets").at(i), sizes[i]});
    }
  }

  // The same bytes by as many threads, into memory that was touched before: of one sample for each thread, which stays
  // in the processor's cache, or of as many samples as a reader holds at once, whose place is main memory.
  void pread_all(const Batches& batches, int threads, std::span<std::byte> memory) const {
    std::vector<std::size_t> order;
    for (const auto& batch : batches) order.insert(order.end(), batch.begin(), batch.end());
    const std::size_t places = memory.size() / bytes_of_sample();
    std::atomic<std::size_t> next{0};
    std::vector<std::jthread> pool;
    for (int i = 0; i < threads; ++i)
      pool.emplace_back([&, i] {
        for (std::size_t at = next++; at < order.size(); at = next++) {
          const std::size_t place =
              places == static_cast<std::size_t>(threads) ? static_cast<std::size_t>(i) : at % places;
          std::byte* to = memory.data() + place * bytes_of_sample();
          for (const Piece& piece : samples_[order[at]]) {
            read_piece(piece, to);
            to += piece.bytes;
          }
        }
      });
  }

  void read_sequentially() const {
    std::vector<char> memory(std::size_t{8} << 20);
    for (const FileDescriptor& file : files_)
      for (off_t at = 0;;) {
        const ssize_t got = pread(file.get(), memory.data(), memory.size(), at);
        if (got <= 0) break;
        at += got;
      }
  }

  void forget() const {
    for (const FileDescriptor& file : files_) posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }

  std::size_t bytes_of_sample() const {
    std::size_t bytes = 0;
    for (const Piece& piece : samples_.front()) bytes += piece.bytes;
    return bytes;
  }

 private:
  static void read_piece(const Piece& piece, std::byte* to) {
    for (std::size_t done = 0; done < piece.bytes;) {
      const ssize_t got = pread(piece.file, to + done, piece.bytes - done, static_cast<off_t>(piece.offset + done));
      if (got <= 0) throw Error("bench cache", "a shard cannot be read");
      done += static_cast<std::size_t>(got);
    }
  }

  std::vector<FileDescriptor> files_;
  std::vector<std::vector<Piece>> samples_;
};

std::vector<std::size_t> chunk_sizes(const FeatureLayout& layout) {
  const auto map = static_cast<std::size_t>(layout.patches) * static_cast<std::size_t>(layout.width) * 2;
  const auto pixels = static_cast<std::size_t>(layout.mask_size) * static_cast<std::size_t>(layout.mask_size);
  std::vector<std::size_t> sizes = {static_cast<std::size_t>(layout.global_size) * sizeof(float)};
  sizes.insert(sizes.end(), layout.qkv_layers.size() + layout.vv_layers.size(), map);
  sizes.push_back((pixels + 7) / 8);
  return sizes;
}

}  // namespace

Json bench_cache(const BenchCacheOptions& options) {
  const FeatureLayout layout = bench_layout(options.side);
  const double write_s = seconds_of([&] { write_cache(options, layout); });
  const RawFiles raw(options.folder, chunk_sizes(layout));
  const double bytes = static_cast<double>(raw.bytes_of_sample()) * static_cast<double>(options.samples);

  // Turn by turn, so that all see the same machine; the best of the rounds counts.
  constexpr double none = std::numeric_limits<double>::infinity();
  double reader_s = none, first_touch_s = none, pread_s = none, pread_in_cache_s = none, cold_s = none,
         sequential_s = none;
  const ShardReader unverified(options.folder, ShardReader::Verify::never);
  raw.read_sequentially();
  const std::size_t held_bytes =
      std::max(default_prefetch_bytes / raw.bytes_of_sample(), static_cast<std::uint64_t>(options.threads)) *
      raw.bytes_of_sample();
  const auto memory = allocate_aligned(held_bytes);
  const std::span held(memory.get(), held_bytes);
  std::ranges::fill(held, std::byte{1});
  const auto memory_before = static_cast<double>(resident_memory_bytes());
  for (int round = 0; round < options.rounds; ++round) {
    const Batches batches = batches_of_round(options, round);
    pread_in_cache_s =
        std::min(pread_in_cache_s, seconds_of([&] {
                   raw.pread_all(batches, options.threads,
                                 held.first(static_cast<std::size_t>(options.threads) * raw.bytes_of_sample()));
                 }));
    pread_s = std::min(pread_s, seconds_of([&] { raw.pread_all(batches, options.threads, held); }));
    reader_s = std::min(reader_s, seconds_of([&] { read_all(unverified, batches, options.threads); }));
    const ShardReader verified(options.folder);
    first_touch_s = std::min(first_touch_s, seconds_of([&] { read_all(verified, batches, options.threads); }));
  }
  const double taken = static_cast<double>(resident_memory_bytes()) - memory_before;
  for (int round = 0; round < options.rounds; ++round) {
    const Batches batches = batches_of_round(options, round);
    raw.forget();
    sequential_s = std::min(sequential_s, seconds_of([&] { raw.read_sequentially(); }));
    raw.forget();
    cold_s = std::min(cold_s, seconds_of([&] { read_all(unverified, batches, options.threads); }));
  }
  return {{"samples", options.samples},
          {"sample_bytes", raw.bytes_of_sample()},
          {"batch", options.batch},
          {"threads", options.threads},
          {"written_bytes_per_s", bytes / write_s},
          {"warm",
           {{"pread_bytes_per_s", bytes / pread_s},
            {"reader_bytes_per_s", bytes / reader_s},
            {"of_pread", pread_s / reader_s},
            {"pread_in_cache_bytes_per_s", bytes / pread_in_cache_s},
            {"first_touch_bytes_per_s", bytes / first_touch_s},
            {"first_touch_of_pread", pread_s / first_touch_s}}},
          {"cold",
           {{"sequential_bytes_per_s", bytes / sequential_s},
            {"reader_bytes_per_s", bytes / cold_s},
            {"of_sequential", sequential_s / cold_s}}},
          {"memory_bytes", taken}};
}

}  // namespace filo
