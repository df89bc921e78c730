// What `filo-worker bench` measures: one training step by part, the image tower, the convolution kernels alone, the
// metrics of a class, reading a feature cache.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "base/json.hpp"
#include "settings/train.hpp"

namespace filo {

struct BenchStepOptions {
  std::string spec;            // a model's YAML file: configs/models/paper.yaml, ...
  std::filesystem::path clip;  // Hugging Face folder
  std::string class_name;      // of the prompts: "bottle"
  int batch = 8;               // images, over all ranks
  int steps = 2;               // timed ones, after one that is not
  int threads = 0;             // 0: LibTorch's default
  Precision precision = Precision::fp32;
  Precision gradients = Precision::fp32;  // on their way between ranks
};

// One step of phase one from cached features, as training does it but for the reading: random features of the sizes
// that weights and settings say, an image of a random mask each. Under mpirun the ranks share the batch and exchange
// their gradients. Returns, of this rank,
//   {"profile", "class", "batch", "ranks", "rank", "dtype", "gradients", "gradient_bytes" (float32), "threads",
//    "products" (who computes them, model/products.hpp), "prompts" (learnable ones per image),
//    "seconds_per_image": {"zero_gradients", "text_forward", "decoder_forward", "backward", "all_reduce" (what of it
//    the backward pass does not hide, and waiting for slower ranks), "gradient_norm", "optimizer", "total"} (best of
//    the timed steps, by total; time of the step / batch), "peak_rss_bytes" (of the process, its weights with it),
//    "peak_rss_bytes_by_part"}.
// Throws UsageError as make_system() and ClipModel do. Collective; starts and ends MPI.
Json bench_step(const BenchStepOptions& options);

struct BenchKernelsOptions {
  int batch = 1;
  int side = 37;      // patches per side
  int inputs = 1024;  // C_v
  int outputs = 768;  // C
  int threads = 0;    // 0: LibTorch's default
};

// {"threads", "instruction_set", "gemm": {"fp32", "bf16"} (floating point operations per second of the machine's at::mm
// on
//  [2048, 2048] matrices),
//  "deformable": [{"kernel": "3x3", "dtype", "pass": "forward"|"backward", "seconds", "fraction_of_gemm", "share"}]
//  (share: of its pass's time over the kernels of a stage, same dtype), "summed": [{"pass", "seconds",
//  "direct_operations_per_second"}], "summed_relative_error" (float32 against float64)}
Json bench_kernels(const BenchKernelsOptions& options);

struct BenchTowerOptions {
  std::filesystem::path clip;  // Hugging Face folder
  int image_size = 518;        // pixels, a multiple of the patch
  int batch = 1;               // images at once
  int steps = 3;               // timed ones, after one that is not; the best counts
  int threads = 0;             // 0: LibTorch's default
};

// The image tower with both paths, as the features stage runs it: {"threads", "batch", "image_size", "products" (who
// computes them here), "seconds_per_image": {"libtorch" (products and attention in float32 by LibTorch's default),
// "fp32", "bf16"}, "ratio": {"fp32", "bf16"} (libtorch's seconds / theirs), "operations_per_second": the same three of
// the tower's largest product alone, "largest_difference": {"fp32", "bf16"} (of any feature of the last layer to
// libtorch's, of the largest of those)}. The three take turns, so that a busy machine is busy for all. Throws
// UsageError as ClipModel does.
Json bench_tower(const BenchTowerOptions& options);

struct BenchMetricsOptions {
  std::size_t images = 200;
  int side = 518;  // pixels of a map
  int threads = 1;
  std::size_t memory_bytes = std::size_t{512} << 20;  // as MapsStorage has it
  std::filesystem::path folder;                       // of the temporary file
  std::filesystem::path save;                         // gets the maps: maps.f32, masks.u8; empty: nothing is saved
};

// The pixels' metrics of generated maps: {"images", "side", "threads", "memory_limit_bytes", "disk_bytes", "passes",
// "seconds", "cpu_seconds", "seconds_with_intervals", "cpu_seconds_with_intervals", "peak_rss_bytes" (of the process,
// the maps with it), "metrics", "binned" (as intervals take them)}. Throws Error as AnomalyMaps does, and where the
// maps cannot be saved.
Json bench_metrics(const BenchMetricsOptions& options);

struct BenchCacheOptions {
  std::size_t samples = 100;
  int side = 37;    // patches per side: a sample has 19.2 MB at 37
  int batch = 8;    // samples read at once
  int threads = 2;  // that read
  int rounds = 3;
  std::filesystem::path folder;  // gets the cache, and keeps it
};

// Reading a cache of random features in random order: {"samples", "sample_bytes", "batch", "threads",
// "written_bytes_per_s" (drawing the numbers with it), "warm": {"pread_bytes_per_s" (as many threads, the same chunks
// in the same order, into memory that was touched before), "reader_bytes_per_s" (Prefetcher, chunks not verified: as
// from the second epoch on), "of_pread", "first_touch_bytes_per_s" (verified), "first_touch_of_pread"}, "cold" (the
// system was told to forget the files): {"sequential_bytes_per_s" (one thread, file after file), "reader_bytes_per_s",
// "of_sequential"}, "memory_bytes" (what reading made the process larger by)}; the best of the rounds.
Json bench_cache(const BenchCacheOptions& options);

}  // namespace filo
