#include "scheduler/plan/needed_images.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace filo {
namespace {

// In all classes; unset where a class does not say.
std::optional<int> anomalous_images(const DatasetInfo& dataset) {
  int sum = 0;
  for (const auto& [name, counts] : dataset.images) {
    if (!counts.anomalous) return std::nullopt;
    sum += *counts.anomalous;
  }
  return sum;
}

}  // namespace

void expect_trainable(const DatasetInfo& dataset, const Experiment& experiment) {
  const auto anomalous = anomalous_images(dataset);
  if (dataset.test_images == 0 || anomalous == 0)
    throw UsageError(experiment.place("folds"),
                     "found no anomalous test images in data set " + dataset.name +
                         ", expected some: a fold cannot train on it, since training needs defects");
  int unmasked = 0;
  for (const auto& [name, counts] : dataset.images) unmasked += counts.unmasked;
  if (unmasked > 0 && unmasked == anomalous)
    throw UsageError(experiment.place("folds"),
                     "found no mask of the " + std::to_string(unmasked) + " anomalous images of data set " +
                         dataset.name +
                         ", expected some: a fold cannot train on it, since training compares maps with masks");
}

void expect_testable(const DatasetInfo& dataset, const Experiment& experiment) {
  for (const auto& [name, counts] : dataset.images)
    if (counts.test == 0)
      throw UsageError(experiment.place("folds"), "found no test images of class " + name + " in data set " +
                                                      dataset.name + ", expected some: a fold cannot test on it");
  if (anomalous_images(dataset) == 0)
    throw UsageError(experiment.place("folds"),
                     "found no anomalous test images in data set " + dataset.name +
                         ", expected some: a fold cannot test on it, since no metric is defined without");
}

void expect_mosaics(const DatasetInfo& dataset, const Experiment& experiment) {
  if (std::ranges::none_of(dataset.images, [](const auto& of_class) { return of_class.second.test >= 4; }))
    throw UsageError(
        experiment.place("train.augment.mosaic.rate"),
        "found mosaics, but no class of data set " + dataset.name + " has four test images to make one of, expected 0");
}

void expect_shots(const DatasetInfo& dataset, int shots, const Experiment& experiment) {
  for (const auto& [name, counts] : dataset.images)
    if (counts.train < shots)
      throw UsageError(experiment.place("evaluate.shots"),
                       "found " + std::to_string(shots) + ", expected at most " + std::to_string(counts.train) +
                           ", the images of class " + name + " in the train split of data set " + dataset.name);
}

}  // namespace filo
