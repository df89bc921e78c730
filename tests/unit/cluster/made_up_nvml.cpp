// Stands in for NVIDIA's management library: two GPUs, on which this process and another one have run.
#include <unistd.h>

extern "C" {

struct Sample {
  unsigned pid;
  unsigned long long time_us;
  unsigned percent[4];
};

int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = 2, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  static int devices[2];
  return *device = &devices[index], 0;
}
int nvmlDeviceGetProcessUtilization(void*, Sample* samples, unsigned* count, unsigned long long since) {
  if (since >= 7) return *count = 0, 6;  // NVML_ERROR_NOT_FOUND: nothing new
  const auto pid = static_cast<unsigned>(getpid());
  samples[0] = {pid, 5, {40, 0, 0, 0}};
  samples[1] = {pid + 1, 6, {100, 0, 0, 0}};
  samples[2] = {pid, 7, {60, 0, 0, 0}};
  return *count = 3, 0;
}
}
