// What a data set must have to be trained on, tested on, or drawn few-shot images from. All functions throw UsageError
// that names the experiment's place, the data set and the class.
#pragma once

#include "scheduler/plan/digests.hpp"
#include "settings/experiment/experiment.hpp"

namespace filo {

// Anomalous images, some of them with a mask: the losses compare maps with masks, and leave out images without.
void expect_trainable(const DatasetInfo& dataset, const Experiment& experiment);

// Test images of each class, and anomalous ones among all: else no metric is defined.
void expect_testable(const DatasetInfo& dataset, const Experiment& experiment);

// Four test images of a class, for a mosaic of it.
void expect_mosaics(const DatasetInfo& dataset, const Experiment& experiment);

// `shots` images of each class in the train split.
void expect_shots(const DatasetInfo& dataset, int shots, const Experiment& experiment);

}  // namespace filo
