// `train:` of an experiment: how long, how fast, in which numbers. What each setting means:
// docs/reference/experiment-file.md.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.hpp"

namespace filo {

struct Schema;

enum class Precision { fp32, bf16 };
enum class OnNotFinite { stop, skip };  // a step whose loss or gradients are no numbers

struct TrainSettings {
  // A checkpoint's folder, which takes the place of a training: nothing is trained, and the rest here has no effect but
  // for the seed. {train} in it stands for the fold's data sets, as in "mvtec" or "mvtec+visa". "": train.
  std::string checkpoint;
  int main_epochs = 15;
  double learning_rate_prompts = 1e-3;
  double learning_rate_mdci = 1e-4;  // MDCI kernels and the linear layers
  int adapter_epochs = 5;
  double learning_rate_adapter = 1e-5;
  int batch_size = 8;  // images per step over all ranks
  Precision precision = Precision::fp32;
  std::uint64_t seed = 0;
  int snapshot_every_steps = 50;
  OnNotFinite on_not_finite = OnNotFinite::stop;
  int verify_every_steps = 1000;  // all ranks compare parameters and optimiser state; 0: after a resume only
};

// In the shape of the YAML, every key present but `checkpoint` where there is none, and those that came later where
// they have their defaults, so that stages of former versions keep their keys; the inverse throws UsageError naming
// `where` and the key.
Json to_json(const TrainSettings& settings);
TrainSettings train_settings_from_json(const Json& json, const std::string& where);

Schema train_schema();
TrainSettings train_settings_of(const Json& resolved);  // from a value that resolve() returned without problems

}  // namespace filo
