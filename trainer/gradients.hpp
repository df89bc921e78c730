// What the ranks exchange of tensors: gradients of a backward pass, summed while it still runs; a state that one of
// them has read; and whether all have the same.
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

// Rank 0's values, in tensors of the same names, types and shapes on every rank. On the CPU. Collective over host
// memory.
void broadcast_tensors(Communicator& host, TensorMap& tensors);

// Throws Error on rank 0 where another rank's bytes differ from its own, naming the rank and the first such tensor;
// `where` says what was compared. Collective over host memory; the other ranks do not learn of a difference.
void expect_equal_on_all_ranks(Communicator& host, const TensorMap& tensors, const std::string& where);

// The Euclidean norm of all of them together; not finite as soon as one value is not. One read of their memory.
double norm_of(const TensorMap& tensors);

}  // namespace filo
