#include <nvtx3/nvToolsExt.h>

#include "cluster/ranges.hpp"

namespace filo {

void open_range(const char* name) { nvtxRangePushA(name); }
void close_range() { nvtxRangePop(); }

}  // namespace filo
