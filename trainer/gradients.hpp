// Gradients of a backward pass, summed over the ranks while it still runs.
#pragma once

#include <string>
#include <vector>

#include "cluster/communicator.hpp"
#include "cluster/gradient_buckets.hpp"
#include "model/tensors.hpp"

namespace filo {

// Hooks on the leaf parameters hand each gradient to the buckets as soon as autograd has it; the buckets' all-reduce
// overlaps with the rest of the backward pass. Not thread-safe; one per phase.
class GradientExchange {
 public:
  // `names`: the parameters that take part, the same on every rank. `communicator`: of the memory that they live in.
  GradientExchange(Communicator& communicator, const TensorMap& parameters, const std::vector<std::string>& names);
  ~GradientExchange();
  GradientExchange(const GradientExchange&) = delete;
  GradientExchange& operator=(const GradientExchange&) = delete;

  void begin();  // before a step's backward
  // After it: waits, and returns each parameter's summed gradient. One that no rank's graph reached is zero.
  TensorMap finish();

 private:
  struct Member {
    std::string name;
    torch::Tensor parameter;
    unsigned hook = 0;
  };
  std::vector<Member> members_;
  GradientBuckets buckets_;
};

}  // namespace filo
