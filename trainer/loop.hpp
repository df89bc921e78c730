// The loop of a training: phases, epochs, steps, snapshots.
#pragma once

#include <vector>

#include "data/shards/shard_reader.hpp"
#include "model/systems/system.hpp"
#include "settings/train.hpp"
#include "trainer/feature_batch.hpp"
#include "trainer/stage.hpp"

namespace filo {

// Trains the system's parameters in place, phase by phase, on the samples of `reader`; `boxes`: of each of its folders.
// Goes on from the newest valid snapshot in STAGE/snapshots, and writes them as settings.snapshots says, at the end of
// each epoch, and before a stop; meanwhile it goes on. A resume gives the same bits on as many ranks.
//
// The gradient of a step is the sum over the ranks, in their order, of each rank's mean-loss gradient weighted by its
// share of the batch: equal bits on equally many ranks, equal up to float32 rounding on others.
//
// Collective. Throws StoppedEarly at the step boundary where a rank was asked to stop, Error when a loss is not finite.
void train(Stage& stage, const TrainSettings& settings, System& system, const ShardReader& reader,
           const std::vector<ImageBoxes>& boxes);

}  // namespace filo
