// `train:` of an experiment: how long, how fast, in which numbers. What each setting means:
// docs/reference/experiment-file.md.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.hpp"

namespace filo {

struct Schema;

enum class Precision { fp32, bf16 };
enum class OnNotFinite { stop, skip };             // a step whose loss or gradients are no numbers
enum class Schedule { constant, linear, cosine };  // of the learning rates over a phase's steps
enum class Balance { none, classes, defects };     // what an epoch takes equally often
enum class BestBy { none, validation_loss, validation_image_auroc };

// The snapshots of a phase: when, how many, and which of them the phase ends with.
struct SnapshotSettings {
  int every_steps = 50;           // and at the end of every epoch
  double every_minutes = 0;       // besides; 0: not
  int keep = 2;                   // the newest, beside the best
  BestBy best_by = BestBy::none;  // none: the phase ends with its last step
};

// Images of the training data sets that are not trained on, of each class normal and anomalous alike.
struct ValidationSettings {
  double fraction = 0;   // of the images; 0: none
  int every_epochs = 1;  // and after the last
};

// Mosaics of four images of a class, 2 x 2, in place of some images (as FiLo trains on MVTec).
struct MosaicSettings {
  double rate = 0;    // of the places of an epoch; 0: none
  int variants = 20;  // that are made of each class, once
};

struct TrainSettings {
  // A checkpoint's folder, which takes the place of a training: nothing is trained, and the rest here has no effect but
  // for the seed. {train} in it stands for the fold's data sets, as in "mvtec" or "mvtec+visa". "": train.
  std::string checkpoint;
  int main_epochs = 15;
  double learning_rate_prompts = 1e-3;
  double learning_rate_mdci = 1e-4;  // MDCI kernels and the linear layers
  int adapter_epochs = 5;
  double learning_rate_adapter = 1e-5;
  int batch_size = 8;    // images per step over all ranks
  bool grouped = false;  // batches of one class
  Balance balance = Balance::none;
  MosaicSettings mosaic;
  Precision precision = Precision::fp32;
  std::uint64_t seed = 0;
  double weight_decay = 0.01;
  Schedule schedule = Schedule::constant;
  int warmup_steps = 0;                   // of each phase
  double clip_gradient_norm = 0;          // 0: not
  int micro_batch_size = 0;               // images that a rank computes at once; 0: its whole share of the batch
  Precision gradients = Precision::fp32;  // on their way between ranks
  SnapshotSettings snapshots;
  ValidationSettings validation;
  int patience = 0;  // validations in a row without a new best that end the phase; 0: never
  OnNotFinite on_not_finite = OnNotFinite::stop;
  int verify_every_steps = 1000;  // all ranks compare parameters and optimiser state; 0: after a resume only
};

// In the shape of the YAML, every key present but `checkpoint` where there is none, and those that came later where
// they have their defaults, so that stages of former versions keep their keys; the inverse takes specs of former
// versions too, and throws UsageError naming `where` and the key.
Json to_json(const TrainSettings& settings);
TrainSettings train_settings_from_json(const Json& json, const std::string& where);

Schema train_schema();
TrainSettings train_settings_of(const Json& resolved);  // from a value that resolve() returned without problems

}  // namespace filo
