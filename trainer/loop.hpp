// The loop of a training: phases, epochs, steps, snapshots.
#pragma once

#include <vector>

#include "data/shards/shards.hpp"
#include "model/systems/system.hpp"
#include "settings/train.hpp"
#include "trainer/feature_batch.hpp"
#include "trainer/stage.hpp"

namespace filo {

// Trains the system's parameters in place, phase by phase, on the samples of `reader`; `boxes`: of each of its folders.
// Goes on from the newest valid snapshot in STAGE/snapshots, and writes one every settings.snapshot_every_steps steps,
// at the end of each phase, and before a stop. A resume gives the same bits on as many ranks.
//
// Collective. Throws StoppedEarly at the step boundary where a rank was asked to stop, Error when a loss is not finite.
void train(Stage& stage, const TrainSettings& settings, System& system, const ShardReader& reader,
           const std::vector<ImageBoxes>& boxes);

}  // namespace filo
