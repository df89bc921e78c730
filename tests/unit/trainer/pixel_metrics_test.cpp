#include "trainer/pixel_metrics.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/random.hpp"
#include "trainer/metrics.hpp"

namespace filo {
namespace {

using Labels = std::vector<std::uint8_t>;
using Scores = std::vector<float>;

// Gone at the end.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("filo-maps-" + std::to_string(getpid()))) {}
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Images put in reverse, as ranks may send them.
AnomalyMaps maps_of(const Scores& scores, const Labels& masks, std::size_t height, std::size_t width,
                    const MapsStorage& storage = {}) {
  const std::size_t area = height * width, images = scores.size() / area;
  AnomalyMaps maps(images, height, width, storage);
  for (std::size_t i = images; i-- > 0;)
    maps.put(i, std::span(scores).subspan(i * area, area), std::span(masks).subspan(i * area, area),
             "image " + std::to_string(i));
  return maps;
}

double aupro(const Scores& scores, const Labels& masks, std::size_t height, std::size_t width, double limit = 0.3) {
  return pixel_metrics(maps_of(scores, masks, height, width), {.fpr_limits = {limit}}).exact.aupro.front();
}

// Every number of a result, as bits: NaN equals NaN, and 0.1 + 0.2 is not 0.3.
std::vector<std::uint64_t> bits_of(const PixelMetrics& metrics) {
  std::vector<std::uint64_t> bits;
  for (const double value : {metrics.metrics.auroc, metrics.metrics.ap, metrics.metrics.f1_max})
    bits.push_back(std::bit_cast<std::uint64_t>(value));
  for (const double value : metrics.aupro) bits.push_back(std::bit_cast<std::uint64_t>(value));
  return bits;
}

// A class whose scores have ties: 30 images of 24 x 24, two thirds with defects.
struct Class {
  static constexpr std::size_t side = 24, images = 30, area = side * side;
  Scores scores;
  Labels masks, labels;

  explicit Class(double steps) {
    Random random(1, "class");
    for (std::size_t image = 0; image < images; ++image) {
      const std::size_t x0 = random.below(16), y0 = random.below(16);
      labels.push_back(image % 3 == 0 ? 0 : 1);
      for (std::size_t i = 0; i < area; ++i) {
        const std::size_t x = i % side, y = i / side;
        const bool defect = labels.back() != 0 && x >= x0 && x < x0 + 6 && y >= y0 && y < y0 + 5;
        masks.push_back(defect || (labels.back() != 0 && random.below(100) == 0) ? 1 : 0);
        scores.push_back(static_cast<float>(std::round((random.normal() + 2 * masks.back()) * steps) / steps));
      }
    }
  }
};

// Guards the weighting: each region counts the same, however small; a perfect map has 1.
TEST(PixelMetrics, RegionsCountTheSame) {
  const Labels mask = {1, 1, 1, 0,  //
                       1, 1, 1, 0,  //
                       0, 0, 0, 0,  //
                       0, 0, 0, 1};
  Scores perfect(mask.begin(), mask.end());
  EXPECT_DOUBLE_EQ(aupro(perfect, mask, 4, 4), 1);
  Scores without_small = perfect;
  without_small[15] = -1;  // found only after all else
  EXPECT_DOUBLE_EQ(aupro(without_small, mask, 4, 4), 0.5);
}

// Guards the neighbourhood: pixels that touch at a corner are one region, and a U is one, too.
TEST(PixelMetrics, EightNeighbours) {
  const Labels corner = {1, 1, 0,  //
                         0, 0, 1,  //
                         0, 0, 0};
  const Scores two_of_three = {3, 2, 0,   //
                               0, 0, -1,  //
                               0, 0, 0};
  EXPECT_DOUBLE_EQ(aupro(two_of_three, corner, 3, 3, 1.0), 2.0 / 3);  // two regions would give 1/2
  const Labels u = {1, 0, 1,                                          //
                    1, 0, 1,                                          //
                    1, 1, 1, 0, 0, 0, 1, 0, 0};
  Scores found(u.begin(), u.end());
  found[12] = -1;  // the second region: half of the mean
  EXPECT_DOUBLE_EQ(aupro(found, u, 5, 3, 0.5), 0.5);
}

TEST(PixelMetrics, ConstantMapsAndLimits) {
  const Labels mask = {1, 0, 0, 0};
  const PixelMetrics exact =
      pixel_metrics(maps_of(Scores(4, 0.5f), mask, 2, 2), {.fpr_limits = {1.0, 0.3, 0.05}}).exact;
  EXPECT_DOUBLE_EQ(exact.aupro.at(0), 0.5);
  EXPECT_DOUBLE_EQ(exact.aupro.at(1), 0.15);
  EXPECT_DOUBLE_EQ(exact.aupro.at(2), 0.025);
  EXPECT_DOUBLE_EQ(exact.metrics.auroc, 0.5);
  EXPECT_TRUE(std::isnan(aupro(Scores(4, 0.5f), Labels(4, 0), 2, 2)));
  EXPECT_TRUE(std::isnan(aupro(Scores(4, 0.5f), Labels(4, 1), 2, 2)));
  EXPECT_THROW(aupro(Scores(4, 0.5f), mask, 2, 2, 0.0), Error);
  EXPECT_THROW(aupro(Scores(4, 0.5f), mask, 2, 2, 1.5), Error);
}

// Guards against a number that is none, anywhere: the image and the pixel are named.
TEST(PixelMetrics, NotANumberIsAnErrorThatNamesTheImage) {
  for (std::size_t at = 0; at < 4; ++at) {
    Scores scores(4, 0.5f);
    scores[at] = NAN;
    try {
      maps_of(scores, {1, 0, 0, 0}, 2, 2);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()),
                "metrics: image 0: pixel " + std::to_string(at) + " of its anomaly map is NaN, expected a number");
    }
  }
  EXPECT_THROW(maps_of(Scores(4, 0.5f), {2, 0, 0, 0}, 2, 2), Error);
  AnomalyMaps maps(1, 2, 2);
  EXPECT_THROW(maps.put(0, Scores(3), Labels(3), "short"), Error);
  EXPECT_THROW(maps.put(1, Scores(4), Labels(4), "one too many"), Error);
}

// Guards the counting of defect-free pixels in gaps against the plain way: all pixels sorted.
TEST(PixelMetrics, AreThoseOfAllPixelsInOneList) {
  for (const double steps : {1.0, 10.0, 1e9}) {
    const Class data(steps);
    const Metrics list = binary_metrics(data.scores, data.masks);
    const Metrics exact = pixel_metrics(maps_of(data.scores, data.masks, Class::side, Class::side), {}).exact.metrics;
    EXPECT_NEAR(exact.auroc, list.auroc, 1e-12) << steps;
    EXPECT_NEAR(exact.ap, list.ap, 1e-12) << steps;
    EXPECT_NEAR(exact.f1_max, list.f1_max, 1e-12) << steps;
  }
}

// Guards the bound on memory: spilled maps, many ranges (some so crowded that their keys are counted) and many threads
// change no bit; intervals, whose sums are floats, hardly.
TEST(PixelMetrics, DoNotDependOnMemoryOrThreads) {
  const Folder folder;
  for (const double steps : {1.0, 10.0, 1e9}) {
    const Class data(steps);
    const Resamples resamples = draw_resamples(data.labels, "class", 100);
    const auto metrics = [&](std::size_t memory, int threads) {
      const AnomalyMaps maps =
          maps_of(data.scores, data.masks, Class::side, Class::side, {.memory_bytes = memory, .folder = folder.path()});
      EXPECT_EQ(maps.is_spilled(), memory < 100'000);
      return pixel_metrics(maps, {.fpr_limits = {0.3, 0.05, 1}, .threads = threads, .resamples = &resamples});
    };
    const PixelMetricsResult whole = metrics(1 << 20, 1);
    EXPECT_EQ(whole.passes, 2u);
    for (const std::size_t memory : {std::size_t{1} << 20, std::size_t{90'000}, std::size_t{8'000}, std::size_t{0}})
      for (const int threads : {1, 3}) {
        const PixelMetricsResult found = metrics(memory, threads);
        EXPECT_EQ(bits_of(found.exact), bits_of(whole.exact)) << memory << " bytes, " << threads << " threads";
        if (memory == 0) {
          EXPECT_GT(found.passes, 8u);
        }
        ASSERT_EQ(found.resampled.size(), 100u);
        for (std::size_t i = 0; i < found.resampled.size(); ++i) {
          if (memory >= 90'000) {
            EXPECT_EQ(bits_of(found.resampled[i]), bits_of(whole.resampled[i]));
          }
          EXPECT_NEAR(found.resampled[i].metrics.ap, whole.resampled[i].metrics.ap, 1e-6);
          EXPECT_NEAR(found.resampled[i].aupro[1], whole.resampled[i].aupro[1], 1e-6);
        }
      }
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));  // the file had no name
}

TEST(PixelMetrics, OfSomeImagesAreThoseOfAClassOfThem) {
  const Class data(10);
  const std::size_t first = 7, count = 9;
  const Scores scores(data.scores.begin() + first * Class::area, data.scores.begin() + (first + count) * Class::area);
  const Labels masks(data.masks.begin() + first * Class::area, data.masks.begin() + (first + count) * Class::area);
  const PixelMetricsResult some =
      pixel_metrics(maps_of(data.scores, data.masks, Class::side, Class::side), {7, 8, 9, 10, 11, 12, 13, 14, 15}, {});
  EXPECT_EQ(bits_of(some.exact), bits_of(pixel_metrics(maps_of(scores, masks, Class::side, Class::side), {}).exact));
}

TEST(AnomalyMaps, ADiskThatIsFullIsToldBeforeThereIsAnythingToPut) {
  const Folder folder;
  const std::size_t side = 60'000, images = 1'000'000;  // 18 petabytes
  EXPECT_THROW(AnomalyMaps(images, side, side, {.memory_bytes = 1 << 20, .folder = folder.path()}), Error);
}

TEST(AnomalyMaps, WhatIsReadBackIsWhatWasPut) {
  const Folder folder;
  const Class data(1e9);
  for (const std::size_t memory : {std::size_t{1} << 20, std::size_t{0}}) {
    const AnomalyMaps maps =
        maps_of(data.scores, data.masks, Class::side, Class::side, {.memory_bytes = memory, .folder = folder.path()});
    AnomalyMaps::Buffer buffer;
    for (const std::size_t image : {29u, 0u, 13u}) {
      const auto [map, mask] = maps.read(image, buffer);
      EXPECT_TRUE(
          std::equal(map.begin(), map.end(), data.scores.begin() + static_cast<std::ptrdiff_t>(image * Class::area)));
      EXPECT_TRUE(
          std::equal(mask.begin(), mask.end(), data.masks.begin() + static_cast<std::ptrdiff_t>(image * Class::area)));
    }
    EXPECT_EQ(maps.lowest(), *std::min_element(data.scores.begin(), data.scores.end()));
    EXPECT_EQ(maps.highest(), *std::max_element(data.scores.begin(), data.scores.end()));
  }
}

// Guards what the intervals are made of: bins lose less than a thousandth.
TEST(Bootstrap, BinsTellThePixelMetrics) {
  for (const double steps : {10.0, 1e9}) {
    const Class data(steps);
    const Resamples resamples = draw_resamples(data.labels, "class", 10);
    const PixelMetricsResult found = pixel_metrics(maps_of(data.scores, data.masks, Class::side, Class::side),
                                                   {.fpr_limits = {0.3, 0.05}, .resamples = &resamples});
    EXPECT_NEAR(found.binned.metrics.auroc, found.exact.metrics.auroc, 1e-3);
    EXPECT_NEAR(found.binned.metrics.ap, found.exact.metrics.ap, 1e-3);
    EXPECT_NEAR(found.binned.metrics.f1_max, found.exact.metrics.f1_max, 1e-3);
    for (const std::size_t limit : {0u, 1u}) EXPECT_NEAR(found.binned.aupro[limit], found.exact.aupro[limit], 1e-3);
  }
}

// Guards the strata: every resample has as many normal and as many anomalous images as the class, by the class's name.
TEST(Bootstrap, ResamplesKeepBothKindsOfImages) {
  const Labels labels = {0, 1, 0, 1, 1, 0, 0};
  const Resamples resamples = draw_resamples(labels, "cup");
  for (std::size_t resample = 0; resample < resamples.count; ++resample) {
    int drawn[2] = {0, 0};
    for (std::size_t i = 0; i < labels.size(); ++i)
      drawn[labels[i]] += resamples.weights[i * resamples.count + resample];
    EXPECT_EQ(drawn[0], 4);
    EXPECT_EQ(drawn[1], 3);
  }
  EXPECT_EQ(draw_resamples(labels, "cup").weights, resamples.weights);
  EXPECT_NE(draw_resamples(labels, "nut").weights, resamples.weights);
}

TEST(Bootstrap, PercentilesAreInterpolatedOverTheNumbers) {
  EXPECT_FALSE(interval_95({NAN, NAN}));
  const auto interval = interval_95({4, 1, NAN, 3, 2, 0});  // places 0.1 and 3.9
  EXPECT_DOUBLE_EQ(interval->first, 0.1);
  EXPECT_DOUBLE_EQ(interval->second, 3.9);
}

// Guards the level: of classes drawn from known distributions, whose AUROC is Phi(1 / sqrt 2), 95 % have it inside.
TEST(Bootstrap, IntervalsCoverTheTruthAsOftenAsTheySay) {
  const double truth = 0.5 * std::erfc(-0.5);  // Phi(1 / sqrt 2)
  constexpr std::size_t images = 80, classes = 300;
  std::size_t covered = 0;
  for (std::size_t number = 0; number < classes; ++number) {
    Random random(3, "coverage", number);
    Scores scores;
    Labels labels;
    for (std::size_t i = 0; i < images; ++i) {
      labels.push_back(i % 2);
      scores.push_back(static_cast<float>(random.normal() + labels.back()));
    }
    std::vector<double> values;
    for (const Metrics& metrics :
         resampled_metrics(scores, labels, draw_resamples(labels, std::to_string(number), 400)))
      values.push_back(metrics.auroc);
    const auto interval = interval_95(std::move(values));
    covered += interval->first <= truth && truth <= interval->second ? 1 : 0;
  }
  EXPECT_GT(covered, classes * 91 / 100);
  EXPECT_LT(covered, classes * 98 / 100);
}

}  // namespace
}  // namespace filo
