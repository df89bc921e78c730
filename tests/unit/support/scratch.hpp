// What the scheduler's tests share: a folder that lives as long as the test, with weights and data sets in name only.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/files.hpp"
#include "scheduler/plan/plan_file.hpp"

namespace filo {

class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "filo-scheduler-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error("test", "no temporary folder");
    folder = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder / name).parent_path());
    write_file_atomically(folder / name, text);
    return (folder / name).string();
  }

  void add_clip(const std::string& name, const std::string& weights = "weights") const {
    write(name + "/config.json", R"({"vision_config": {"patch_size": 14, "num_hidden_layers": 24}})");
    write(name + "/model.safetensors", weights);
    write(name + "/vocab.json", "{}");
    write(name + "/merges.txt", "");
  }

  void add_dataset(const std::string& name, const std::string& digest, const std::string& class_name) const {
    write("workspace/datasets/" + name + ".json",
          Json{{"name", name}, {"digest", digest}, {"classes", {{class_name, {{"train", 1}, {"test", 2}}}}}}.dump());
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

  std::filesystem::path folder;
};

// What() of what `action` throws; "" when it throws nothing.
template <typename Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

inline void write_result(const Workspace& workspace, const std::string& key, StageKind kind, int attempt,
                         const Json& metrics = Json::object(), const Json& artifacts = Json::object()) {
  write_json(
      workspace.result_file(key),
      to_json(StageResult{
          .stage = key, .kind = kind, .attempt = attempt, .seconds = 2.0, .metrics = metrics, .artifacts = artifacts}));
}

}  // namespace filo
