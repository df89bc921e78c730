// Names of training settings that benchmarks have too.
#pragma once

#include "settings/enum_names.hpp"
#include "settings/train.hpp"

namespace filo {

extern const EnumNames<Precision> precision_names;

}  // namespace filo
