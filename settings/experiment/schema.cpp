#include "settings/experiment/schema.hpp"

#include <algorithm>

#include "settings/evaluate.hpp"
#include "settings/metrics.hpp"
#include "settings/resources.hpp"
#include "settings/tracking.hpp"
#include "settings/train.hpp"

namespace filo {
namespace {

Schema model_with_clip(Profile profile) {
  Schema schema = model_schema(profile);
  for (auto& field : schema.fields)
    if (field.name == "clip")
      field.schema = Schema::text(std::nullopt)
                         .where([](const Json& text) { return text != ""; }, "the path of a Hugging Face CLIP folder");
  return schema;
}

Schema one_of(std::vector<std::string> choices) {
  Schema schema = Schema::text(std::nullopt);
  schema.choices = std::move(choices);
  return schema;
}

Schema table_schema() {
  return Schema::record({{"title", Schema::text("")},
                         {"rows", Schema::any("")},
                         {"columns", Schema::text("fold")},
                         {"metrics", Schema::list(one_of(metric_names()), Json(main_metrics()), 1)},
                         {"paper", Schema::any(Json::object())},
                         {"note", Schema::text("")}});
}

}  // namespace

const std::vector<std::string>& section_names() {
  static const std::vector<std::string> names = {"model", "train", "evaluate", "resources"};
  return names;
}

std::size_t section_of(const std::string& dotted_key) {
  const auto& names = section_names();
  const auto found = std::find(names.begin(), names.end(), dotted_key.substr(0, dotted_key.find('.')));
  return static_cast<std::size_t>(found - names.begin());
}

Schema settings_schema(Profile profile) {
  return Schema::record({{"model", model_with_clip(profile)},
                         {"train", train_schema()},
                         {"evaluate", evaluate_schema()},
                         {"resources", resource_schema()}});
}

Schema experiment_schema(Profile profile, bool own_trials) {
  const Schema include = Schema::list(Schema::any(std::nullopt), Json::array());
  if (!own_trials)
    return Schema::record({{"name", Schema::plain_name()}, {"include", include}, {"tracking", tracking_schema()}});
  const Schema values = Schema::list(Schema::any(std::nullopt), std::nullopt, 1);
  std::vector<Schema::Field> fields = {{"name", Schema::plain_name()},
                                       {"base", Schema::text("")},
                                       {"note", Schema::text("")},
                                       {"data", Schema::map(Schema::plain_name(), std::nullopt, 1)},
                                       {"folds", Schema::any(std::nullopt)}};
  for (auto& section : settings_schema(profile).fields) fields.push_back(std::move(section));
  const std::vector<Schema::Field> grid = {{"axes", Schema::map(values, Json::object())},
                                           {"zip", Schema::map(values, Json::object())},
                                           {"include", include},
                                           {"exclude", exclude_schema()},
                                           {"seeds", Schema::any(Json::array())},
                                           {"export", Schema::list(one_of({"bundle"}), Json::array())},
                                           {"search", Schema::any(Json())},
                                           {"tables", Schema::list(table_schema(), Json::array())},
                                           {"tracking", tracking_schema()}};
  fields.insert(fields.end(), grid.begin(), grid.end());
  return Schema::record(std::move(fields));
}

Schema exclude_schema() { return Schema::list(Schema::map(Schema::any(std::nullopt), std::nullopt, 1), Json::array()); }

}  // namespace filo
