// The kinds of stages, and the keys that name them: equal work has an equal key, so that it is done once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.hpp"

namespace filo {

enum class StageKind { features, boxes, train, evaluate, exported };  // exported: "export", which C++ keeps for itself
std::string to_string(StageKind kind);
StageKind stage_kind(const std::string& name);  // throws Error on an unknown one

// First 16 hex digits of SHA-256 over canonical_json(key_view(spec)). A change of what it gives for a spec that exists
// makes everybody's finished stages run again.
std::string stage_key(const Json& spec);

// The spec without what only says where things are or how often they are saved: clip.path, model.clip,
// model.prompts.descriptions (the content stands in `descriptions`), boxes.path, the data sets' names (their digests
// count) and train.snapshots but for best_by.
Json key_view(Json spec);

// 16 hex digits in lower case. Keys become paths: what comes from outside is checked first.
bool is_stage_key(std::string_view text);

// A key as the number that its digits write: quick to compare and to hash.
std::uint64_t key_number(const std::string& key);

}  // namespace filo
