#include "workspace/artifacts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "../support/scratch_folder.hpp"
#include "base/error.hpp"
#include "base/hash.hpp"
#include "workspace/manifest.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string train_key = "aa00000000000000", evaluate_key = "ee00000000000000";

class Artifacts : public testing::Test {
 protected:
  // A training that is done, and told what a worker tells.
  void finish(const std::string& key, StageKind kind, const Json& spec, const Json& metrics, const Json& artifacts) {
    workspace_.create_stage(key, spec);
    workspace_.make_attempt(key);
    scratch_.write(
        "workspace/stages/" + key + "/attempts/1/events.jsonl",
        R"({"event":"started","seq":0,"time":5,"host":"old"})"
        "\n"
        R"({"event":"started","seq":1,"time":7,"host":"node7","products":"onednn","versions":{"filo":"0.1.0","torch":"2.3"}})"
        "\n");
    write_json(workspace_.result_file(key), to_json(StageResult{.stage = key,
                                                                .kind = kind,
                                                                .attempt = 1,
                                                                .world_size = 2,
                                                                .seconds = 3,
                                                                .metrics = metrics,
                                                                .artifacts = artifacts}));
  }
  std::string collect() {
    scratch_.write("workspace/stages/" + train_key + "/checkpoint/params.safetensors", "parameters");
    scratch_.write("workspace/stages/" + train_key + "/checkpoint/settings.json", "{}");
    finish(train_key, StageKind::train,
           {{"kind", "train"},
            {"dataset", {{"name", "parts"}, {"digest", "d1"}}},
            {"model", {{"profile", "paper"}}},
            {"train", {{"seed", 3}}},
            {"inputs", {{"features", "ff00000000000000"}}}},
           Json::object(), {{"checkpoint", "checkpoint"}});
    finish(evaluate_key, StageKind::evaluate,
           {{"kind", "evaluate"},
            {"dataset", {{"name", "boards"}, {"digest", "d2"}}},
            {"train_dataset", {{"name", "parts"}, {"digest", "d1"}}},
            {"seed", 3},
            {"inputs", {{"train", train_key}}}},
           {{"image_auroc", 0.5}, {"intervals", {{"image_auroc", {0.25, 0.75}}}}, {"classes", {{"bolt", 1}}}},
           Json::object());
    const std::string digest = collect_checkpoint(workspace_, train_key, "demo").value();
    collect_evaluation(workspace_, evaluate_key, "demo");
    return digest;
  }
  // {path: content} of all files of an artifact.
  std::map<std::string, std::string> files(const std::string& digest) const {
    std::map<std::string, std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(workspace_.artifact_folder(digest)))
      if (entry.is_regular_file()) found[entry.path().string()] = read_file(entry.path());
    return found;
  }

  ScratchFolder scratch_;
  Workspace workspace_{scratch_.folder / "workspace"};
};

// Guards: what made and what measured a checkpoint stands beside it, for when stages and experiments are gone.
TEST_F(Artifacts, AManifestTellsWhatMadeAndMeasuredACheckpoint) {
  const std::string digest = collect();
  fs::remove_all(workspace_.stages_folder());
  const CheckpointManifest manifest = read_checkpoint_manifest(workspace_, digest);
  ASSERT_EQ(manifest.trainings.size(), 1u);
  ASSERT_EQ(manifest.evaluations.size(), 1u);
  const Json& train = manifest.trainings[0];
  EXPECT_EQ(train.at("experiment"), "demo");
  EXPECT_EQ(train.at("weights"), sha256_hex("parameters"));
  EXPECT_EQ(train.at("seed"), 3);
  EXPECT_EQ(train.at("datasets"), Json::parse(R"([{"name": "parts", "digest": "d1"}])"));
  EXPECT_EQ(train.at("host"), "node7");
  EXPECT_EQ(train.at("versions").at("torch"), "2.3");
  EXPECT_EQ(train.at("products"), "onednn");
  EXPECT_EQ(train.at("parents").at("features"), "ff00000000000000");
  EXPECT_EQ(train.at("settings").at("model").at("profile"), "paper");
  EXPECT_EQ(manifest.evaluations[0].at("metrics"),
            Json::parse(R"({"image_auroc": 0.5, "intervals": {"image_auroc": [0.25, 0.75]}})"));
  EXPECT_EQ(manifest.evaluations[0].at("dataset").at("name"), "boards");
}

// Guards: a pass that was killed collects again, and then not a byte changes, whoever asks for it.
TEST_F(Artifacts, CollectingTwiceChangesNothing) {
  const std::string digest = collect();
  const auto before = files(digest);
  EXPECT_EQ(collect_checkpoint(workspace_, train_key, "another"), digest);
  collect_evaluation(workspace_, evaluate_key, "another");
  fs::remove(workspace_.collected_file(train_key));
  EXPECT_EQ(collect_checkpoint(workspace_, train_key, "another"), digest);
  EXPECT_EQ(files(digest), before);
}

// Guards: an evaluation that was done again tells what it measured last.
TEST_F(Artifacts, ALaterAttemptTakesThePlaceOfAFormerOne) {
  const std::string digest = collect();
  workspace_.make_attempt(evaluate_key);
  write_json(
      workspace_.result_file(evaluate_key),
      to_json(StageResult{
          .stage = evaluate_key, .kind = StageKind::evaluate, .attempt = 2, .metrics = {{"image_auroc", 0.75}}}));
  collect_evaluation(workspace_, evaluate_key, "demo");
  const CheckpointManifest manifest = read_checkpoint_manifest(workspace_, digest);
  ASSERT_EQ(manifest.evaluations.size(), 1u);
  EXPECT_EQ(manifest.evaluations[0].at("metrics").at("image_auroc"), 0.75);
}

// Guards: damage is found and named, in parameters, in the list of files and in the manifest.
TEST_F(Artifacts, DamageIsFoundAndNamed) {
  const std::string digest = collect();
  EXPECT_EQ(sha256_hex(read_file(workspace_.artifact_sums_file(digest))), digest);
  EXPECT_THAT(artifact_problems(workspace_, digest), IsEmpty());
  const fs::path folder = workspace_.artifact_folder(digest);
  const auto damaged = [&](const std::string& name, const std::string& content) {
    const std::string sound = read_file(folder / name);
    std::ofstream(folder / name, std::ios::trunc) << content;
    const auto problems = artifact_problems(workspace_, digest);
    std::ofstream(folder / name, std::ios::trunc) << sound;
    return problems;
  };
  EXPECT_THAT(damaged("params.safetensors", "Parameters"), ElementsAre(HasSubstr("params.safetensors: has SHA-256")));
  EXPECT_THAT(damaged("SHA256SUMS", "nothing\n"), ElementsAre(HasSubstr("SHA256SUMS: has SHA-256")));
  const std::string record = "manifest/" + evaluate_key + ".json";
  std::string better = read_file(folder / record);
  better.replace(better.find("0.5,"), 4, "0.9,");
  EXPECT_THAT(damaged(record, better), ElementsAre(HasSubstr(record + ": is not as it was written")));
  EXPECT_THAT(damaged(record, "{"), ElementsAre(HasSubstr(record + ": is no JSON object")));
  fs::rename(folder / "settings.json", folder / "other.json");
  EXPECT_THAT(artifact_problems(workspace_, digest),
              ElementsAre("settings.json: is missing", "other.json: is no file of this checkpoint"));
  EXPECT_THROW(copy_artifact(workspace_, digest, scratch_.folder / "copy"), Error);
  EXPECT_FALSE(fs::exists(scratch_.folder / "copy"));
}

// Guards: checkpoints of versions without SHA256SUMS and manifest are still verified, and get a manifest when they are
// evaluated.
TEST_F(Artifacts, ThoseOfFormerVersionsAreVerifiedToo) {
  const std::string digest = collect();
  fs::remove_all(workspace_.manifest_folder(digest));
  fs::remove(workspace_.artifact_sums_file(digest));
  EXPECT_THAT(artifact_problems(workspace_, digest), IsEmpty());
  EXPECT_TRUE(read_checkpoint_manifest(workspace_, digest).trainings.empty());
  collect_evaluation(workspace_, evaluate_key);
  EXPECT_EQ(read_checkpoint_manifest(workspace_, digest).trainings.size(), 1u);
  std::ofstream(workspace_.artifact_folder(digest) / "settings.json") << "[]";
  EXPECT_THAT(artifact_problems(workspace_, digest), ElementsAre(HasSubstr("params.safetensors, settings.json: ")));
}

// Guards: a tag names one checkpoint, and can be told from the digits of a digest.
TEST_F(Artifacts, TagsAndDigitsName) {
  const std::string digest = collect();
  tag_artifact(workspace_, digest, "release");
  tag_artifact(workspace_, digest, "release");
  EXPECT_EQ(find_artifact(workspace_, "release"), digest);
  EXPECT_EQ(find_artifact(workspace_, digest.substr(0, 6)), digest);
  EXPECT_THROW(tag_artifact(workspace_, std::string(64, '0'), "release"), UsageError);
  EXPECT_THROW(tag_artifact(workspace_, digest, "beef"), UsageError);
  EXPECT_THROW(tag_artifact(workspace_, digest, "../up"), UsageError);
  EXPECT_THROW(find_artifact(workspace_, "releese"), UsageError);
  remove_tag(workspace_, "release");
  EXPECT_THROW(remove_tag(workspace_, "release"), UsageError);
  EXPECT_THROW(find_artifact(workspace_, "release"), UsageError);
}

}  // namespace
}  // namespace filo
