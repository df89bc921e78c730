// What a process, and a GPU's made-up management library, tell of their use.
#include "cluster/resource_use.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace filo {
namespace {

TEST(ResourceUse, OfThisProcessIsItsPeakAndItsTime) {
  const ResourceUse before = resource_use_of_this_process();
  {
    std::vector<char> eaten(256u << 20);
    for (std::size_t i = 0; i < eaten.size(); i += 4096) eaten[i] = 1;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
    while (std::chrono::steady_clock::now() < end) eaten[0] = static_cast<char>(eaten[0] + 1);
  }
  const ResourceUse after = resource_use_of_this_process();
  EXPECT_GT(after.memory_bytes, 256u << 20);
  EXPECT_GE(after.memory_bytes, before.memory_bytes);
  EXPECT_GT(after.cpu_s, before.cpu_s + 0.1);
}

TEST(GpuMeter, MeansThisProcessesSamplesOfAllGpus) {
  const GpuMeter meter(MADE_UP_NVML);
  std::optional<double> use;
  for (int i = 0; i < 100 && !use; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    use = meter.use();
  }
  ASSERT_TRUE(use);
  EXPECT_DOUBLE_EQ(*use, 0.5) << "40 and 60 % are this process's, 100 % another's";
}

TEST(GpuMeter, KnowsNothingWithoutTheLibrary) {
  const GpuMeter meter("libno-such-library.so");
  EXPECT_FALSE(meter.use());
}

}  // namespace
}  // namespace filo
