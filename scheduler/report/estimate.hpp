// What a stage costs, by arithmetic: good for planning a week, not for a bill. Each function says what it leaves out.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "base/json.hpp"
#include "scheduler/plan/digests.hpp"
#include "workspace/workspace.hpp"

namespace filo {

struct StageCost {
  double flop = 0;   // multiplications and additions; reading, decoding and metrics are left out
  double bytes = 0;  // that stay on disk: features; snapshots and checkpoint; heat maps. Logs are left out
};

// Of a stage with such a spec.json. `images`: those of its data sets together; of large images that are cut the tiles.
StageCost stage_cost(StageKind kind, const Json& spec, const ClipSizes& clip, double images);

// The same with the images of the spec's data sets and the sizes of its weights, which are looked at once each.
class StageCosts {
 public:
  explicit StageCosts(const Workspace& workspace) : workspace_(workspace) {}
  StageCost of(StageKind kind, const Json& spec);  // throws Error where a data set or the weights are gone

 private:
  double images_of(const std::string& dataset, const TilingSettings& tiling);
  const DatasetInfo& dataset(const std::string& name);
  const ClipSizes& sizes(const std::string& folder);

  const Workspace& workspace_;
  std::map<std::string, DatasetInfo> datasets_;
  std::map<std::string, ClipSizes> sizes_;
};

// What a CPU thread, or a GPU, is taken to do where no stage of the kind has run in the workspace, FLOP/s.
inline constexpr double assumed_flop_per_thread = 2e10;
inline constexpr double assumed_flop_per_gpu = 2e13;

}  // namespace filo
