#include "scheduler/tracking/sink.hpp"

#include "scheduler/tracking/mlflow.hpp"
#include "scheduler/tracking/tensorboard.hpp"

namespace filo {

std::vector<std::unique_ptr<RunSink>> make_sinks(const Workspace& workspace, const std::shared_ptr<const Plan>& plan,
                                                 const TrackingSettings& settings) {
  std::vector<std::unique_ptr<RunSink>> sinks;
  if (settings.tensorboard)
    sinks.push_back(std::make_unique<TensorBoardSink>(workspace.tensorboard_folder(plan->name)));
  if (!settings.mlflow_uri.empty())
    sinks.push_back(std::make_unique<MlflowSink>(workspace, plan, settings, mlflow_authorization()));
  return sinks;
}

}  // namespace filo
