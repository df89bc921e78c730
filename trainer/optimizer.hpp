// AdamW (Loshchilov and Hutter 2019, algorithm 2) over named parameters, with a state that snapshots can hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/systems/parameters.hpp"
#include "model/tensors.hpp"
#include "settings/train.hpp"

namespace filo {

struct AdamWOptions {
  double beta1 = 0.5;  // FiLo's betas, and APRIL-GAN's and AnomalyCLIP's
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  // PyTorch's default, which FiLo leaves as it is
};

// Equal to torch.optim.AdamW step by step. Parameters without a gradient are left alone, as there.
class AdamW {
 public:
  // `parameters` are shared with the model: step() changes them in place. Every name must be there.
  AdamW(const TensorMap& parameters, const std::vector<ParameterGroup>& groups, AdamWOptions options = {});

  // `gradients`: name -> gradient of the parameter's shape, contiguous. `factor`: of every learning rate, at this step.
  void step(const TensorMap& gradients, double factor = 1);

  // "NAME/exp_avg", "NAME/exp_avg_sq" float32 and "NAME/step" int64 [1].
  TensorMap state() const;
  // Throws Error naming the tensor that is missing, extra or of another shape.
  void load_state(const TensorMap& state, const std::string& where);

 private:
  struct Slot {
    torch::Tensor parameter, exp_avg, exp_avg_sq;
    std::int64_t step = 0;
    double learning_rate = 0;
  };
  std::map<std::string, Slot> slots_;
  AdamWOptions options_;
};

// The factor of the learning rates at `step` (from 0) of `steps`: 0 to 1 over the first `warmup` of them, then as the
// schedule says down to 0; transformers' get_{constant,linear,cosine}_schedule_with_warmup, and constant without a
// warm-up is 1 throughout.
double schedule_factor(Schedule schedule, std::int64_t warmup, std::int64_t step, std::int64_t steps);

}  // namespace filo
