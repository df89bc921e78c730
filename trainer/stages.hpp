// The kinds of stage that a worker runs, each readable from top to bottom as its recipe. All are collective:
// every rank calls them with the same spec. They throw Error on bad input and StoppedEarly after a snapshot; both leave
// nothing half written.
#pragma once

#include "trainer/stage.hpp"

namespace filo {

// Images of the data set's test split -> CLIP features in WORKSPACE/features/KEY (data/shards/shards.hpp). Images are
// dealt to the ranks in groups; a restart encodes only what no finished shard holds. An image's features have the same
// bits on any number of ranks.
void run_features(Stage& stage);

// A file of boxes (data/boxes.hpp) -> STAGE/boxes.json, checked: the digest it was planned with, corners, and that the
// data set has each image.
void run_boxes(Stage& stage);

// Cached features -> learnable parameters: phase `main` (prompts, MDCI, linear layers; local loss), then phase
// `adapter` (global loss, on vectors computed once). Snapshots in STAGE/snapshots; the result is STAGE/checkpoint/.
void run_train(Stage& stage);

// Checkpoint + the other data set's features -> metrics per class and their means, heat maps, interpretations.
void run_evaluate(Stage& stage);

// Checkpoint + the CLIP weights -> STAGE/bundle/, which `filo-worker predict --checkpoint` takes on any machine.
void run_export(Stage& stage);

}  // namespace filo
