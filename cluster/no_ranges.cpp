#include "cluster/ranges.hpp"

namespace filo {

void open_range(const char*) {}
void close_range() {}

}  // namespace filo
