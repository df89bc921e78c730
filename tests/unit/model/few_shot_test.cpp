#include "model/layers/few_shot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"

namespace filo {
namespace {

TEST(FewShot, DistanceIsThatOfTheNearestPatch) {
  // Guards equation 5 over several images, whatever the patches' lengths.
  FewShotMemory memory;
  memory.add("nut", {{6, torch::tensor({{{2.f, 0.f}, {0.f, 3.f}}})}});
  memory.add("nut", {{6, torch::tensor({{-1.f, 0.f}, {0.f, -1.f}})}});
  EXPECT_EQ(memory.images("nut"), 2);
  const torch::Tensor found = memory.distances("nut", 6, torch::tensor({{5.f, 0.f}, {1.f, 1.f}, {-0.1f, 0.f}}));
  EXPECT_TRUE(torch::allclose(found, torch::tensor({0.f, 1 - std::sqrt(0.5f), 0.f}), 0, 1e-6));
}

TEST(FewShot, ALargeMemoryIsSearchedWhole) {
  // Guards the search by parts: the nearest patch is the last one.
  torch::Tensor patches = torch::zeros({1, 10000, 2});
  patches.select(2, 0).fill_(1);
  patches[0][9999][0] = 0;
  patches[0][9999][1] = 1;
  FewShotMemory memory;
  memory.add("nut", {{6, patches}});
  EXPECT_NEAR(memory.distances("nut", 6, torch::tensor({{0.f, 2.f}})).item<float>(), 0, 1e-6);
}

TEST(FewShot, WhatIsNotThereIsNamed) {
  // Guards k = 0, an unknown class and layer, other widths and layers, and values that are not finite.
  FewShotMemory memory;
  EXPECT_THROW(memory.add("nut", {{6, torch::zeros({0, 4, 2})}}), UsageError);
  EXPECT_THROW(memory.add("nut", {}), UsageError);
  EXPECT_EQ(memory.images("nut"), 0);
  memory.add("nut", {{6, torch::ones({1, 4, 2})}});
  EXPECT_THROW(memory.add("nut", {{6, torch::ones({1, 4, 3})}}), UsageError);
  EXPECT_THROW(memory.add("nut", {{7, torch::ones({1, 4, 2})}}), UsageError);
  EXPECT_THROW(memory.add("nut", {{6, torch::full({1, 4, 2}, NAN)}}), UsageError);
  EXPECT_EQ(memory.images("nut"), 1);
  EXPECT_THROW(memory.distances("bolt", 6, torch::ones({4, 2})), UsageError);
  EXPECT_THROW(memory.distances("nut", 12, torch::ones({4, 2})), UsageError);
}

}  // namespace
}  // namespace filo
