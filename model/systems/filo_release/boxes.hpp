// What FiLo's published test makes of a detector's boxes.
#pragma once

#include <string>
#include <vector>

#include "data/boxes.hpp"

namespace filo {

// Those whose phrase has one of the class's phrases in it, or one of FiLo's five general words (anomaly, damage,
// broken, defect, contamination), letter by letter, upper and lower case told apart. A box whose phrase is not told
// stays.
std::vector<Box> filo_release_matches(const std::vector<Box>& boxes, const std::vector<std::string>& phrases);

// Positions (as position_name()) that FiLo's prompts name for an image of `size` pixels: that of the best box, the last
// of equals with scores cut to two decimals; the center without a box. FiLo's thirds of an image are whole pixels,
// [0, S/3], [S/3 + 1, 2S/3 - 1], [2S/3, S - 1]: a centre between two of them, or beside the image,
// asks for all nine.
std::vector<int> filo_release_positions(const std::vector<Box>& boxes, int size);

}  // namespace filo
