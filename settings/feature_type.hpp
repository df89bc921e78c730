// How feature caches store the maps of the image tower (model.feature_type).
#pragma once

#include "settings/enum_names.hpp"

namespace filo {

enum class FeatureType { f16, bf16, f32, int8 };  // int8: with a scale for each patch

extern const EnumNames<FeatureType> feature_type_names;

}  // namespace filo
