#include "settings/tracking.hpp"

#include "base/http_client.hpp"
#include "settings/schema.hpp"

namespace filo {

bool is_mlflow_uri(const std::string& uri) {
  return is_usable({uri, "", ""}) && uri.find_first_of("@?# ") == std::string::npos;
}

const std::vector<std::string>& tracking_variables() {
  static const std::vector<std::string> names = {"MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME",
                                                 "MLFLOW_TRACKING_PASSWORD", "SSL_CERT_FILE"};
  return names;
}

Schema tracking_schema() {
  const auto none_or_uri = [](const Json& text) {
    return text == "" || is_mlflow_uri(text.get_ref<const std::string&>());
  };
  return Schema::record({{"tensorboard", Schema::boolean(false)},
                         {"mlflow", Schema::record({{"uri", Schema::text("").where(none_or_uri, expected_mlflow_uri)},
                                                    {"experiment", Schema::text("")}})}});
}

TrackingSettings tracking_settings_of(const Json& json) {
  return {.tensorboard = json.at("tensorboard"),
          .mlflow_uri = json.at("mlflow").at("uri"),
          .mlflow_experiment = json.at("mlflow").at("experiment")};
}

TrackingSettings planned_tracking(const Json& plan_experiment) {
  const auto tracking = plan_experiment.find("tracking");
  return tracking == plan_experiment.end() ? TrackingSettings() : tracking_settings_of(*tracking);
}

}  // namespace filo
