// result.json: what a stage came to. The worker writes it last, by rename; that it is there and valid is what "done"
// means.
#pragma once

#include <optional>
#include <string>

#include "workspace/stage_key.hpp"

namespace filo {

struct StageResult {
  std::string stage;  // key
  StageKind kind = StageKind::features;
  int attempt = 0;
  int world_size = 1;          // ranks
  int threads = 1;             // of each rank
  std::string device = "cpu";  // of rank 0: "cpu", "cuda:0"
  double seconds = 0;          // that the attempt took, from its last start
  Json metrics = Json::object();
  Json artifacts = Json::object();  // name -> path relative to the stage's folder, never outside it
};

Json to_json(const StageResult& result);

// Unset when it is not of this form. Artifacts whose path leads out of the stage's folder are left out. What files of
// former versions lack has the values above.
std::optional<StageResult> stage_result_from_json(const Json& json);

}  // namespace filo
