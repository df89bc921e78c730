// Where FiLo says that a defect is.
#pragma once

#include <vector>

#include "data/boxes.hpp"

namespace filo {

// Positions (as position_name()) that FiLo's prompts name for an image of `size` pixels: that of the best box, the last
// of equals with scores cut to two decimals; the center without a box. FiLo's thirds of an image are whole pixels,
// [0, S/3], [S/3 + 1, 2S/3 - 1], [2S/3, S - 1]: a centre between two of them asks for all nine.
std::vector<int> filo_release_positions(const std::vector<Box>& boxes, int size);

}  // namespace filo
