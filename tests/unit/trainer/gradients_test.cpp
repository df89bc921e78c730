// Run under one, two and three ranks (tests/unit/cluster/mpi_main.cpp): every rank asserts.
#include "trainer/gradients.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "base/error.hpp"

namespace filo::test {
extern Communicator* world;
namespace {

const std::vector<std::string> names = {"matrix", "vector", "unused"};

// Equal on every rank.
TensorMap parameters() {
  torch::manual_seed(1);
  return {{"matrix", torch::randn({3, 4}).requires_grad_()},
          {"vector", torch::randn({100000}).requires_grad_()},
          {"unused", torch::randn({2}).requires_grad_()}};
}

// What a rank's samples of a step make of the parameters: another loss on each rank, and at each step.
torch::Tensor loss_of(const TensorMap& parameters, int rank, int step) {
  const double weight = 0.1 + rank + 10 * step;
  return (parameters.at("matrix").sin() * weight).sum() +
         (parameters.at("vector").square() * (weight / 3) + parameters.at("vector").exp() * 1e-3).sum();
}

// The ranks' gradients added in rank order, computed here alone.
TensorMap sum_in_rank_order(int ranks, int step) {
  TensorMap sums;
  const TensorMap own = parameters();
  for (int rank = 0; rank < ranks; ++rank) {
    const auto gradients = torch::autograd::grad({loss_of(own, rank, step)}, {own.at("matrix"), own.at("vector")});
    for (std::size_t i = 0; i < gradients.size(); ++i)
      sums[names[i]] = rank == 0 ? gradients[i] : sums[names[i]] + gradients[i];
  }
  return sums;
}

TEST(GradientExchange, SumsOverTheRanksInTheirOrder) {
  // Guards equal bits on equally many ranks, step after step: float32 sums depend on their order.
  const TensorMap own = parameters();
  GradientExchange exchange(*world, own, names);
  for (int step = 0; step < 3; ++step) {
    exchange.begin();
    exchange.expect_last_backward();
    loss_of(own, world->rank(), step).backward();
    const TensorMap gradients = exchange.finish();
    ASSERT_EQ(gradients.size(), names.size());
    for (const auto& [name, expected] : sum_in_rank_order(world->world_size(), step))
      EXPECT_TRUE(torch::equal(gradients.at(name), expected)) << name << " at step " << step;
    EXPECT_TRUE(torch::equal(gradients.at("unused"), torch::zeros({2})));
  }
}

TEST(GradientExchange, EveryRankGetsTheSameBits) {
  // Guards parameters from drifting apart between ranks.
  const TensorMap own = parameters();
  GradientExchange exchange(*world, own, names);
  exchange.begin();
  exchange.expect_last_backward();
  loss_of(own, world->rank(), 0).backward();
  const torch::Tensor gradient = exchange.finish().at("vector");
  const std::string bytes(static_cast<const char*>(gradient.const_data_ptr()), gradient.nbytes());
  const std::vector<std::string> all = world->gather_bytes(bytes);
  for (const std::string& other : all) EXPECT_EQ(other, bytes);
}

TEST(GradientExchange, ARankWithoutSamplesTakesPart) {
  // Guards an epoch's last batch, of which the last ranks may have no sample.
  const TensorMap own = parameters();
  GradientExchange exchange(*world, own, names);
  const int last = world->world_size() - 1;
  for (int step = 0; step < 2; ++step) {
    exchange.begin();
    exchange.expect_last_backward();
    if (world->rank() != last) loss_of(own, world->rank(), step).backward();
    const TensorMap gradients = exchange.finish();
    const TensorMap expected = sum_in_rank_order(last, step);
    for (const std::string name : {"matrix", "vector"}) {
      const torch::Tensor others = last > 0 ? expected.at(name) : torch::zeros_like(own.at(name));
      EXPECT_TRUE(torch::equal(gradients.at(name), others)) << name << " at step " << step;
    }
  }
}

TEST(GradientExchange, GradientsOfSeveralBackwardPassesAreOneSum) {
  // Guards batches that a rank computes in pieces: nothing travels before the last, and nothing is lost.
  const TensorMap own = parameters();
  GradientExchange exchange(*world, own, names);
  for (int step = 0; step < 2; ++step) {
    exchange.begin();
    (loss_of(own, world->rank(), step) + own.at("unused").sum()).backward();  // not reached by the last pass
    loss_of(own, world->rank(), step + 1).backward();
    exchange.expect_last_backward();
    loss_of(own, world->rank(), step + 2).backward();
    const TensorMap& gradients = exchange.finish();
    for (const std::string name : {"matrix", "vector"}) {
      torch::Tensor expected = torch::zeros_like(own.at(name));
      for (int piece = 0; piece < 3; ++piece)
        expected = expected + sum_in_rank_order(world->world_size(), step + piece).at(name);
      EXPECT_TRUE(torch::allclose(gradients.at(name), expected, 1e-5, 1e-5)) << name << " at step " << step;
    }
    EXPECT_TRUE(torch::equal(gradients.at("unused"), torch::full({2}, world->world_size())));
  }
}

TEST(GradientExchange, IsWhereTheOptimiserReads) {
  // Guards memory: at real size a copy of the gradients is a gigabyte.
  const TensorMap own = parameters();
  GradientExchange exchange(*world, own, names);
  exchange.begin();
  exchange.expect_last_backward();
  loss_of(own, world->rank(), 0).backward();
  const void* accumulated = own.at("vector").grad().const_data_ptr();
  EXPECT_EQ(exchange.finish().at("vector").const_data_ptr(), accumulated);
}

TEST(GradientExchange, LeavesNothingOnTheParameters) {
  // Guards the next step, and the next phase, from this one's gradients and hooks.
  const TensorMap own = parameters();
  {
    GradientExchange exchange(*world, own, {"matrix"});
    exchange.begin();
    exchange.expect_last_backward();
    loss_of(own, world->rank(), 0).backward();
    exchange.finish();
    EXPECT_FALSE(own.at("matrix").grad().defined());
  }
  loss_of(own, world->rank(), 1).backward();  // a hook that was left would write into freed buckets
  EXPECT_TRUE(own.at("matrix").grad().defined());
}

TEST(TensorsOfRankZero, AreEveryRanks) {
  TensorMap tensors = {{"floats", torch::full({3, 2}, world->rank() + 1.5)},
                       {"steps", torch::full({1}, world->rank() + 7, torch::kInt64)}};
  broadcast_tensors(*world, tensors);
  EXPECT_TRUE(torch::equal(tensors.at("floats"), torch::full({3, 2}, 1.5)));
  EXPECT_EQ(tensors.at("steps").item<std::int64_t>(), 7);
}

TEST(EqualOnAllRanks, NamesTheRankAndTheTensorOfAFlippedBit) {
  TensorMap tensors = parameters();
  EXPECT_NO_THROW(expect_equal_on_all_ranks(*world, tensors, "train"));
  const int last = world->world_size() - 1;
  if (last == 0) return;
  if (world->rank() == last) tensors["vector"].data_ptr<float>()[99999] *= 1.0000001f;
  if (world->rank() != 0) return expect_equal_on_all_ranks(*world, tensors, "train");
  try {
    expect_equal_on_all_ranks(*world, tensors, "train: step 5");
    FAIL() << "the difference was not seen";
  } catch (const Error& error) {
    EXPECT_EQ(
        std::string(error.what()).find("train: step 5: rank " + std::to_string(last) + " holds another vector than"),
        0u)
        << error.what();
  }
}

TEST(NormOf, IsThatOfAllTensorsAndNotFiniteAsSoonAsOneValueIsNot) {
  TensorMap tensors = {{"a", torch::full({2, 2}, 3.0)}, {"b", torch::full({4}, 4.0)}};
  EXPECT_DOUBLE_EQ(norm_of(tensors), 10);
  EXPECT_EQ(norm_of({}), 0);
  tensors["b"][1] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(std::isfinite(norm_of(tensors)));
  tensors["b"][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(norm_of(tensors)));
}

}  // namespace
}  // namespace filo::test
