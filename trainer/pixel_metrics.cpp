#include "trainer/pixel_metrics.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "data/parallel.hpp"
#include "trainer/regions.hpp"
#include "trainer/score_keys.hpp"

namespace filo {
namespace {

constexpr std::size_t images_at_a_time = 64;        // whose histograms are added together
constexpr std::size_t gathered_per_thread = 4;      // images whose defect pixels wait for their turn
constexpr std::size_t bytes_per_defect_pixel = 40;  // sorted, then with its counts
constexpr std::size_t bytes_per_pixel_of_thread = 5 + 4 + (2 + gathered_per_thread) * 8;  // Scratch, all defects
constexpr std::size_t quantiles = 1024;                                                   // of either kind of pixels
constexpr std::size_t most_bins = 2 * quantiles;
constexpr std::size_t samples = std::size_t{1} << 18;  // defect-free pixels that quantiles are of
constexpr unsigned top_shift = 16;
constexpr std::size_t top_count = std::size_t{1} << (32 - top_shift);

// What one thread needs for one image.
struct Scratch {
  AnomalyMaps::Buffer buffer{};
  std::vector<std::uint32_t> regions{};
  std::vector<std::uint32_t> clean{}, other_clean{};
  std::vector<std::uint64_t> defects{}, other_defects{};
};

// Keys from `begin` on and below `end`.
struct Range {
  std::uint64_t begin = 0, end = std::uint64_t{1} << 32;
  std::size_t defects = 0;  // pixels
  bool is_crowded = false;  // they do not fit, but their distinct keys do
  bool has(std::uint32_t key) const { return key >= begin && key < end; }
};

// The distinct scores of defect pixels in a range, the highest first, and the defect-free pixels around them.
struct Thresholds {
  std::vector<std::uint32_t> keys{};
  std::vector<std::uint64_t> hits{};   // defect pixels
  std::vector<double> overlap{};       // sum over them of 1 / (pixels of their region)
  std::vector<std::uint64_t> clean{};  // [2 n + 1]: before the first, at it, between it and the second, ...

  void add(std::uint32_t key, std::uint64_t pixels, double share) {
    keys.push_back(key);
    hits.push_back(pixels);
    overlap.push_back(share);
  }
};

// Puts a range's defect pixels, which come in the order of images and pixels, together by their scores.
class Gathering {
 public:
  explicit Gathering(const Range& range) : range_(range) {
    if (range.is_crowded) {
      hits_.resize(range.end - range.begin);
      overlap_.resize(hits_.size());
    } else {
      entries_.reserve(range.defects);
    }
  }

  void add(const std::vector<std::uint64_t>& entries) {
    if (!range_.is_crowded) {
      entries_.insert(entries_.end(), entries.begin(), entries.end());
      return;
    }
    for (const std::uint64_t entry : entries) {
      const std::size_t place = key_of(entry) - range_.begin;
      ++hits_[place];
      overlap_[place] += 1.0 / payload_of(entry);
    }
  }

  Thresholds finish() {
    Thresholds thresholds;
    for (std::size_t i = 0; i < hits_.size(); ++i)
      if (hits_[i] > 0) thresholds.add(static_cast<std::uint32_t>(range_.begin + i), hits_[i], overlap_[i]);
    {
      std::vector<std::uint64_t> other;
      sort_by_key(entries_, other);
    }
    for (std::size_t begin = 0; begin < entries_.size();) {
      double share = 0;
      std::size_t end = begin;
      for (; end < entries_.size() && key_of(entries_[end]) == key_of(entries_[begin]); ++end)
        share += 1.0 / payload_of(entries_[end]);
      thresholds.add(key_of(entries_[begin]), end - begin, share);
      begin = end;
    }
    entries_ = {};
    thresholds.clean.resize(2 * thresholds.keys.size() + 1);
    return thresholds;
  }

 private:
  const Range& range_;
  std::vector<std::uint64_t> entries_;  // key, pixels of the region
  std::vector<std::uint64_t> hits_;     // of a crowded range, key by key
  std::vector<double> overlap_;
};

void take_clean(const AnomalyMaps::Image& image, const Range& range, std::vector<std::uint32_t>& clean) {
  clean.resize(image.map.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < image.map.size(); ++i) {  // without a branch, which noise would mislead
    clean[count] = descending_key(image.map[i]);
    count += (image.mask[i] == 0 ? 1u : 0u) & (range.has(clean[count]) ? 1u : 0u);
  }
  clean.resize(count);
}

// Adds a sorted image's defect-free pixels to the gaps they lie in. From several threads.
void count_clean(const std::vector<std::uint32_t>& clean, Thresholds& thresholds) {
  const auto& keys = thresholds.keys;
  std::size_t at = 0;  // the first threshold not before the pixel
  for (std::size_t i = 0; i < clean.size();) {
    if (at < keys.size() && keys[at] < clean[i]) {
      std::size_t stride = 1;
      while (at + stride < keys.size() && keys[at + stride] < clean[i]) stride *= 2;
      const auto end = keys.begin() + static_cast<std::ptrdiff_t>(std::min(at + stride, keys.size()));
      at = static_cast<std::size_t>(
          std::lower_bound(keys.begin() + static_cast<std::ptrdiff_t>(at + stride / 2), end, clean[i]) - keys.begin());
    }
    const std::size_t first = i;
    const bool is_tied = at < keys.size() && keys[at] == clean[i];
    if (at == keys.size())
      i = clean.size();
    else if (is_tied)
      while (i < clean.size() && clean[i] == keys[at]) ++i;
    else
      while (i < clean.size() && clean[i] < keys[at]) ++i;
    std::atomic_ref(thresholds.clean[2 * at + (is_tied ? 1 : 0)]).fetch_add(i - first, std::memory_order_relaxed);
  }
}

// The bins of the intervals: bin i ends with the key edges[i], the last one with the range.
using Edges = std::vector<std::uint32_t>;

void fill_clean(const std::vector<std::uint32_t>& clean, const Edges& edges, float* histogram) {
  auto at = clean.begin();
  for (std::size_t bin = 0; bin <= edges.size(); ++bin) {
    const auto end = bin < edges.size() ? std::upper_bound(at, clean.end(), edges[bin]) : clean.end();
    histogram[bin] = static_cast<float>(end - at);
    at = end;
  }
}

void fill_defects(const std::vector<std::uint64_t>& sorted, const Edges& edges, float* histogram, float* overlap) {
  std::size_t bin = 0;
  for (const std::uint64_t entry : sorted) {
    while (bin < edges.size() && edges[bin] < key_of(entry)) ++bin;
    histogram[bin] += 1;
    overlap[bin] += 1.0f / static_cast<float>(payload_of(entry));
  }
}

class Work {
 public:
  Work(const AnomalyMaps& maps, const std::vector<std::size_t>& images, const PixelMetricsOptions& options)
      : maps_(maps),
        images_(images),
        options_(options),
        scratch_(static_cast<std::size_t>(std::max(options.threads, 1))) {
    for (const std::size_t image : images) defects_ += maps.defect_pixels(image);
    clean_ = images.size() * maps.area() - defects_;
    if (options.resamples != nullptr && !is_undefined()) sums_.emplace(*options.resamples, most_bins, options.threads);
  }

  bool is_undefined() const { return defects_ == 0 || clean_ == 0; }

  PixelMetricsResult result() {
    ThresholdWalk walk(static_cast<double>(clean_), static_cast<double>(defects_), options_.fpr_limits);
    for (const Range& range : ranges()) {
      Thresholds thresholds = gather(range);
      count(range, thresholds);
      const auto& clean = thresholds.clean;
      for (std::size_t i = 0; i < thresholds.keys.size(); ++i) {
        walk.step(static_cast<double>(clean[2 * i]), 0);
        walk.step(static_cast<double>(clean[2 * i + 1]), static_cast<double>(thresholds.hits[i]),
                  thresholds.overlap[i]);
      }
      walk.step(static_cast<double>(clean.back()), 0);
    }
    PixelMetricsResult result;
    result.exact = {.metrics = walk.metrics(), .aupro = walk.aupro(static_cast<double>(regions_))};
    result.passes = passes_;
    if (sums_) take_resamples(result);
    return result;
  }

 private:
  // use(scratch, place) for images_[place] from `first` on; scratch belongs to the thread.
  template <typename Use>
  void for_each(std::size_t first, std::size_t end, const Use& use) {
    std::atomic<std::size_t> next{first};
    parallel_for(scratch_.size(), options_.threads, [&](std::size_t thread) {
      for (std::size_t place = next++; place < end; place = next++) use(scratch_[thread], place);
    });
  }

  // In blocks, one after another: use(scratch, place) side by side, then done(first, end).
  template <typename Use, typename Done>
  void pass(std::size_t block, const Use& use, const Done& done) {
    ++passes_;
    for (std::size_t first = 0; first < images_.size(); first += block) {
      const std::size_t end = std::min(first + block, images_.size());
      for_each(first, end, use);
      done(first, end);
    }
  }

  // Each with as many defect pixels as fit, or with all those whose keys agree in the upper half.
  std::vector<Range> ranges() {
    const std::size_t capacity = std::max<std::size_t>(maps_.working_bytes() / bytes_per_defect_pixel, 1);
    if (defects_ <= capacity) return {{.defects = defects_}};
    const std::vector<std::size_t> by_top = defects_by_top();
    std::vector<Range> all = {{.end = 0}};
    for (std::size_t top = 0; top < top_count; ++top) {
      if (all.back().defects > 0 && all.back().defects + by_top[top] > capacity)
        all.push_back({.begin = all.back().end, .end = all.back().end});
      // Keys without defects before crowded ones would only make its tables longer.
      if (all.back().defects == 0 && by_top[top] > capacity && all.back().end > all.back().begin)
        all.push_back({.begin = all.back().end, .end = all.back().end});
      all.back().end = (top + 1) << top_shift;
      all.back().defects += by_top[top];
      all.back().is_crowded = all.back().defects > capacity;
    }
    return all;
  }

  std::vector<std::size_t> defects_by_top() {
    std::vector<std::size_t> all(top_count);
    std::mutex mutex;
    pass(
        images_at_a_time,
        [&](Scratch& scratch, std::size_t place) {
          if (maps_.defect_pixels(images_[place]) == 0) return;
          const auto [map, mask] = maps_.read(images_[place], scratch.buffer);
          std::vector<std::uint32_t> counts(top_count);
          for (std::size_t i = 0; i < map.size(); ++i) counts[descending_key(map[i]) >> top_shift] += mask[i];
          const std::lock_guard lock(mutex);
          for (std::size_t top = 0; top < top_count; ++top) all[top] += counts[top];
        },
        [](std::size_t, std::size_t) {});
    return all;
  }

  // The defect pixels of an image in their order, into scratch.defects; returns how many regions they are.
  std::size_t take_defects(const AnomalyMaps::Image& image, const Range& range, Scratch& scratch) const {
    scratch.defects.clear();
    scratch.regions.resize(maps_.area());
    const std::vector<std::uint32_t> sizes = label_regions(image.mask, maps_.height(), maps_.width(), scratch.regions);
    for_each_defect(image.mask, [&](std::size_t pixel) {
      const std::uint32_t key = descending_key(image.map[pixel]);
      if (range.has(key)) scratch.defects.push_back(entry_of(key, sizes[scratch.regions[pixel] - 1]));
    });
    return sizes.size();
  }

  Thresholds gather(const Range& range) {
    Gathering gathering(range);
    const bool is_first = range.begin == 0, is_sampled = is_first && sums_;
    const std::size_t block = gathered_per_thread * scratch_.size();
    std::vector<std::vector<std::uint64_t>> found(block);
    std::vector<std::vector<std::uint32_t>> sampled(block);
    std::vector<std::size_t> regions(block);
    std::vector<std::uint32_t> sample;
    pass(
        block,
        [&](Scratch& scratch, std::size_t place) {
          const std::size_t slot = place % block;
          found[slot].clear();
          sampled[slot].clear();
          regions[slot] = 0;
          const bool has_defects = maps_.defect_pixels(images_[place]) > 0;
          if (!has_defects && !is_sampled) return;
          const AnomalyMaps::Image image = maps_.read(images_[place], scratch.buffer);
          if (is_sampled) take_sample(image, place, sampled[slot]);
          if (!has_defects) return;
          regions[slot] = take_defects(image, range, scratch);
          found[slot] = scratch.defects;
        },
        [&](std::size_t first, std::size_t end) {
          for (std::size_t slot = 0; slot < end - first; ++slot) {
            gathering.add(found[slot]);
            sample.insert(sample.end(), sampled[slot].begin(), sampled[slot].end());
            if (is_first) regions_ += regions[slot];
          }
        });
    if (is_sampled) make_clean_edges(sample);
    return gathering.finish();
  }

  // Every so many-th pixel of the class, where it is defect-free.
  void take_sample(const AnomalyMaps::Image& image, std::size_t place, std::vector<std::uint32_t>& sample) const {
    const std::size_t stride = (images_.size() * maps_.area() / samples) | 1;
    for (std::size_t i = stride - 1 - (place * maps_.area() + stride - 1) % stride; i < maps_.area(); i += stride)
      if (image.mask[i] == 0) sample.push_back(descending_key(image.map[i]));
  }

  void make_clean_edges(std::vector<std::uint32_t>& sample) {
    std::sort(sample.begin(), sample.end());
    for (std::size_t i = 1; i < quantiles && !sample.empty(); ++i)
      clean_edges_.push_back(sample[i * sample.size() / quantiles]);
  }

  // Of the bins that end within a range: where a quantile of either kind of pixels lies.
  Edges edges_of(const Range& range, const Thresholds& thresholds) {
    Edges edges;
    for (const std::uint32_t key : clean_edges_)
      if (range.has(key)) edges.push_back(key);
    const auto quantile = [&](std::size_t pixels) {
      return static_cast<std::size_t>(static_cast<double>(pixels) / static_cast<double>(defects_) * quantiles);
    };
    for (std::size_t i = 0; i < thresholds.keys.size(); ++i) {
      const std::size_t before = quantile(defects_passed_);
      defects_passed_ += thresholds.hits[i];
      const std::size_t after = quantile(defects_passed_);
      if (after > before) edges.push_back(thresholds.keys[i]);
    }
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    return edges;
  }

  void count(const Range& range, Thresholds& thresholds) {
    const Edges edges = sums_ ? edges_of(range, thresholds) : Edges{};
    Histograms histograms;
    histograms.stride = (edges.size() / ResampledHistograms::lanes + 1) * ResampledHistograms::lanes;
    if (sums_)
      for (auto* values : {&histograms.clean, &histograms.defects, &histograms.overlap})
        values->resize(images_at_a_time * histograms.stride);
    pass(
        images_at_a_time,
        [&](Scratch& scratch, std::size_t place) {
          const AnomalyMaps::Image image = maps_.read(images_[place], scratch.buffer);
          take_clean(image, range, scratch.clean);
          sort_by_key(scratch.clean, scratch.other_clean);
          count_clean(scratch.clean, thresholds);
          if (sums_) fill(histograms, place, range, image, edges, scratch);
        },
        [&](std::size_t first, std::size_t end) {
          if (!sums_) return;
          std::vector<bool> has_defects;
          for (std::size_t place = first; place < end; ++place)
            has_defects.push_back(maps_.defect_pixels(images_[place]) > 0);
          sums_->add(std::span(images_).subspan(first, end - first), has_defects, histograms, first_bin_,
                     edges.size() + 1);
        });
    first_bin_ += edges.size();
  }

  void fill(Histograms& histograms, std::size_t place, const Range& range, const AnomalyMaps::Image& image,
            const Edges& edges, Scratch& scratch) const {
    const std::size_t row = place % images_at_a_time * histograms.stride;
    fill_clean(scratch.clean, edges, histograms.clean.data() + row);
    if (maps_.defect_pixels(images_[place]) == 0) return;
    take_defects(image, range, scratch);
    sort_by_key(scratch.defects, scratch.other_defects);
    std::fill_n(histograms.defects.data() + row, histograms.stride, 0.0f);
    std::fill_n(histograms.overlap.data() + row, histograms.stride, 0.0f);
    fill_defects(scratch.defects, edges, histograms.defects.data() + row, histograms.overlap.data() + row);
  }

  // Moved, so that what the bins lose is not taken for an effect of the images.
  void take_resamples(PixelMetricsResult& result) {
    result.resampled = sums_->metrics(options_.fpr_limits);
    result.binned = std::move(result.resampled.back());
    result.resampled.pop_back();
    const auto move = [](double& value, double exact, double binned) {
      value = std::isnan(value) ? value : std::clamp(value + (exact - binned), 0.0, 1.0);
    };
    for (PixelMetrics& resampled : result.resampled) {
      for (double Metrics::*metric : {&Metrics::auroc, &Metrics::ap, &Metrics::f1_max})
        move(resampled.metrics.*metric, result.exact.metrics.*metric, result.binned.metrics.*metric);
      for (std::size_t i = 0; i < resampled.aupro.size(); ++i)
        move(resampled.aupro[i], result.exact.aupro[i], result.binned.aupro[i]);
    }
  }

  const AnomalyMaps& maps_;
  const std::vector<std::size_t>& images_;
  const PixelMetricsOptions& options_;
  std::vector<Scratch> scratch_;  // one for each thread
  std::size_t defects_ = 0, clean_ = 0, regions_ = 0;
  std::size_t passes_ = 0;
  std::optional<ResampledHistograms> sums_;
  Edges clean_edges_;
  std::size_t defects_passed_ = 0, first_bin_ = 0;  // in the ranges so far
};

PixelMetrics undefined_metrics(std::size_t limits) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  return {.metrics = {nan, nan, nan}, .aupro = std::vector<double>(limits, nan)};
}

}  // namespace

PixelMetricsResult pixel_metrics(const AnomalyMaps& maps, const std::vector<std::size_t>& images,
                                 const PixelMetricsOptions& options) {
  for (const double limit : options.fpr_limits)
    if (!(limit > 0 && limit <= 1))
      throw Error("metrics", "aupro: limit found: " + std::to_string(limit) + ", expected above 0 and at most 1");
  Work work(maps, images, options);
  if (!work.is_undefined()) return work.result();
  PixelMetricsResult result;
  result.exact = result.binned = undefined_metrics(options.fpr_limits.size());
  if (options.resamples != nullptr) result.resampled.assign(options.resamples->count, result.exact);
  return result;
}

PixelMetricsResult pixel_metrics(const AnomalyMaps& maps, const PixelMetricsOptions& options) {
  std::vector<std::size_t> images(maps.images());
  std::iota(images.begin(), images.end(), 0);
  return pixel_metrics(maps, images, options);
}

std::size_t metrics_memory_bytes(std::size_t images, std::size_t area, std::size_t memory_bytes, int threads) {
  const std::size_t held = AnomalyMaps::held_bytes(images, area, memory_bytes);
  const std::size_t working = std::min(memory_bytes - held, images * area * bytes_per_defect_pixel);
  return held + working + ResampledHistograms::bytes(resample_count, most_bins) +
         images * resample_count * sizeof(std::uint16_t) +
         static_cast<std::size_t>(threads) * area * bytes_per_pixel_of_thread;
}

}  // namespace filo
