// Where the batches of a training phase come from: the feature cache, read ahead, or vectors held in memory.
#pragma once

#include <memory>
#include <vector>

#include "data/shards/shard_reader.hpp"
#include "model/systems/system.hpp"
#include "trainer/feature_batch.hpp"
#include "trainer/stage.hpp"

namespace filo {

// This rank's batches. Not thread-safe.
class PhaseBatches {
 public:
  virtual ~PhaseBatches() = default;

  // `batches`: those that this rank has still to do of the epoch, in the order in which they will be taken.
  virtual void begin_epoch(std::vector<std::vector<std::size_t>> batches) = 0;
  // The batch of `samples`, the next of them.
  virtual FeatureBatch take(const std::vector<std::size_t>& samples) = 0;
};

// Of a phase that needs patches: whole samples from the cache. Of another: its global features, and what the system
// computes ahead of each image (System::frozen_vectors), each rank its share of the images; masks are then undefined.
// That may take long: it is told as progress, and kept in the stage's folder under a digest of the parameters that it
// depends on. The vectors have the same bits on any number of ranks and however often they were interrupted.
//
// Collective. Throws StoppedEarly where a rank was asked to stop. All arguments must outlive what is returned.
std::unique_ptr<PhaseBatches> make_phase_batches(Stage& stage, const TrainingPhase& phase, const System& system,
                                                 const ShardReader& reader, const std::vector<ImageBoxes>& boxes);

// Whole samples from the cache, whatever the phase.
std::unique_ptr<PhaseBatches> stream_batches(const Stage& stage, const ShardReader& reader,
                                             const std::vector<ImageBoxes>& boxes);

}  // namespace filo
