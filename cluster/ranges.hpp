// Named ranges on the timeline of NVIDIA's Nsight tools (NVTX); nothing where the build has no CUDA. Ranges of a thread
// nest.
#pragma once

namespace filo {

void open_range(const char* name);
void close_range();

}  // namespace filo
