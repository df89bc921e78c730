// Names of model settings that `evaluate:` has too.
#pragma once

#include "settings/enum_names.hpp"
#include "settings/model.hpp"

namespace filo {

extern const EnumNames<PositionSource> position_names;
extern const EnumNames<BoxSource> box_source_names;

}  // namespace filo
