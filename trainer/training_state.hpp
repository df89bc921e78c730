// What a training is resumed from: where it stands, its parameters and the optimiser's state, in snapshots that are
// written while it goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "checkpoint/snapshot.hpp"
#include "model/systems/system.hpp"
#include "model/tensors.hpp"
#include "settings/train.hpp"
#include "trainer/stage.hpp"

namespace filo {

// Where a run is: everything a resume needs beside parameters and optimiser state.
struct Position {
  std::string phase;
  int epoch = 0;           // of the phase
  std::size_t step = 0;    // of the epoch: the next one to do
  std::int64_t total = 0;  // steps done over all phases
  double loss_sum = 0;     // of the epoch's steps so far, over `images`
  double images = 0;
  Json validation;              // what the epoch's validation found; null: nothing yet
  std::optional<double> best;   // of the phase's validations
  std::int64_t best_total = 0;  // the steps it was found after; 0: none yet
  int since_best = 0;           // validations since

  void begin_epoch(int number);
};
Json to_json(const Position& position);
Position position_from_json(const Json& state);  // throws Json::exception; snapshots of former versions lack some

// Where a training goes on; rank 0 has read it, all have it.
struct ResumePoint {
  std::string snapshot;  // its folder's name
  Position position;
  TensorMap optimizer;  // rank 0's alone
};

// The newest snapshot that is whole, of one of `phases`, and finite, its parameters put into the system; unset: there
// is none. Rank 0 chooses and reads; the others see no file of it, whatever their host's cache shows them. Those that
// are passed over are told in the events. Collective.
std::optional<ResumePoint> resume(Stage& stage, System& system, const std::vector<TrainingPhase>& phases);

// Puts the parameters of the snapshot after `total` steps into the system, on all ranks. Throws Error where it is not
// whole. Collective.
void load_parameters_of(Stage& stage, System& system, std::int64_t total);

// Rank 0's writer of snapshots; does nothing on the others. A snapshot costs the training a copy of its memory: a
// thread writes it, and hashes what it writes. Not thread-safe.
class SnapshotWriter {
 public:
  SnapshotWriter(Stage& stage, const SnapshotSettings& settings) : stage_(stage), settings_(settings) {}

  bool busy() const;  // one is being written
  // Whether settings.every_minutes have gone by since the last one was begun.
  bool time_is_up() const;
  // Copies all of it and begins to write; waits for the one before. Throws what that one met, and where another attempt
  // or start has taken this one's place.
  void begin(const Position& position, const Json& more, const TensorMap& parameters, const TensorMap& optimizer);
  // Tells of a snapshot that is there by now, and throws what it met: what is not finite is never saved.
  void look();
  void wait();  // the same, once it is there

  const std::string& newest() const { return newest_; }  // name of the last that was written or read; "" none
  void set_newest(const std::string& name) { newest_ = name; }

 private:
  using Clock = std::chrono::steady_clock;
  Stage& stage_;
  const SnapshotSettings& settings_;
  std::string newest_;
  Clock::time_point begun_ = Clock::now();
  std::future<Snapshot> writing_;  // last: its thread uses the above
};

}  // namespace filo
