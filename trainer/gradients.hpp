// What the ranks exchange of tensors: gradients of a backward pass, summed while it still runs; a state that one of
// them has read; and whether all have the same.
#pragma once

#include <string>
#include <vector>

#include "cluster/communicator.hpp"
#include "cluster/gradient_buckets.hpp"
#include "model/tensors.hpp"
#include "settings/train.hpp"

namespace filo {

// While one lives, the parameters' gradients are views of the buckets' memory: autograd adds them up there, the
// buckets' all-reduce overlaps with the rest of the backward pass, and the optimiser reads the sums there. Not
// thread-safe; one per phase.
//
// Order of the sum over a batch's images: a rank's slice (data/sampler.hpp) is summed inside its backward pass, by
// kernels whose order depends on how many images it has; the slices are added in rank order on the host, in NCCL's
// order on GPUs (cluster/communicator.hpp). So as many ranks give the same bits, and another number of ranks the same
// sum but for rounding.
class GradientExchange {
 public:
  // `names`: the parameters that take part, the same on every rank. `communicator`: of the memory that they live in.
  // `on_the_way`: in which numbers gradients travel (cluster/communicator.hpp).
  GradientExchange(Communicator& communicator, const TensorMap& parameters, const std::vector<std::string>& names,
                   Precision on_the_way = Precision::fp32);
  ~GradientExchange();
  GradientExchange(const GradientExchange&) = delete;
  GradientExchange& operator=(const GradientExchange&) = delete;

  void begin();  // before a step's first backward
  // Before its last one: gradients travel as soon as that has added to them. Those of backward passes before it are
  // only added up here.
  void expect_last_backward() { travelling_ = true; }
  // After it: waits, and returns each parameter's summed gradient, valid until begin(). One that no rank's graph
  // reached is zero.
  const TensorMap& finish();

  double waited_s() const { return buckets_.waited_s(); }  // of the last step: what the backward pass did not hide

 private:
  struct Member {
    std::string name;
    torch::Tensor parameter;
  };
  class Hook;
  std::vector<Member> members_;
  GradientBuckets buckets_;
  TensorMap gradients_;  // views of the buckets' memory
  bool travelling_ = false;
};

// Rank 0's values, in tensors of the same names, types and shapes on every rank; they come to lie on the CPU,
// contiguous, without a gradient. Collective over host memory.
void broadcast_tensors(Communicator& host, TensorMap& tensors);

// Throws Error on rank 0 where another rank's bytes differ from its own, naming the rank and the first such tensor;
// `where` says what was compared. Collective over host memory; the other ranks do not learn of a difference.
void expect_equal_on_all_ranks(Communicator& host, const TensorMap& tensors, const std::string& where);

// The Euclidean norm of all of them together; not finite as soon as one value is not. One read of their memory.
double norm_of(const TensorMap& tensors);

}  // namespace filo
