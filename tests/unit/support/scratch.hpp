// What the scheduler's tests share: a scratch folder with weights and data sets in name only.
#pragma once

#include <string>
#include <vector>

#include "scheduler/plan/plan_file.hpp"
#include "scratch_folder.hpp"

namespace filo {

class Scratch : public ScratchFolder {
 public:
  void add_clip(const std::string& name, const std::string& weights = "weights") const {
    write(name + "/config.json", R"({"vision_config": {"patch_size": 14, "num_hidden_layers": 24}})");
    write(name + "/model.safetensors", weights);
    write(name + "/vocab.json", "{}");
    write(name + "/merges.txt", "");
  }

  // `images`: the SHA-256 of each.
  void add_dataset(const std::string& name, const std::string& digest, const std::string& class_name,
                   const std::vector<std::string>& images = {}) const {
    Json listed = Json::array();
    for (const std::string& sha256 : images)
      listed.push_back({{"path", class_name + "/" + std::to_string(listed.size()) + ".png"}, {"sha256", sha256}});
    write("workspace/datasets/" + name + ".json", Json{{"name", name},
                                                       {"digest", digest},
                                                       {"classes", {{class_name, {{"train", 4}, {"test", 2}}}}},
                                                       {"images", listed}}
                                                      .dump());
  }

  // Two data sets, weights, a workspace.
  void add_all() const {
    add_clip("clip");
    add_dataset("parts", "aaaaaaaaaaaaaaaa", "bolt");
    add_dataset("boards", "bbbbbbbbbbbbbbbb", "board");
  }

  Workspace workspace() const { return Workspace(folder / "workspace"); }

  // `more` is appended to an experiment with two folds.
  Experiment experiment(const std::string& more = "") const {
    return load_experiment(write("experiment.yaml",
                                 "name: test\ndata: {a: parts, b: boards}\n"
                                 "folds: [{train: a, test: b}, {train: b, test: a}]\n"
                                 "model: {clip: " +
                                     (folder / "clip").string() +
                                     ", image_size: 112, prompts: {descriptions: none}}\n" + more));
  }
};

inline void write_result(const Workspace& workspace, const std::string& key, StageKind kind, int attempt,
                         const Json& metrics = Json::object(), const Json& artifacts = Json::object()) {
  write_json(
      workspace.result_file(key),
      to_json(StageResult{
          .stage = key, .kind = kind, .attempt = attempt, .seconds = 2.0, .metrics = metrics, .artifacts = artifacts}));
}

}  // namespace filo
