#include "settings/cluster.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "temporary_file.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

ClusterSettings load(const std::string& yaml) {
  return load_cluster_settings(TemporaryFile("cluster.yaml", yaml).path());
}

std::string refusal(const std::string& yaml) {
  return error_of([&] { load(yaml); });
}

// Guards: generic.yaml documents every key, with its default.
TEST(ClusterSettings, GenericFileHoldsEveryDefault) {
  const std::string file = std::string(FILO_SOURCE_DIR) + "/configs/clusters/generic.yaml";
  EXPECT_EQ(to_json(load_cluster_settings(file)), to_json(load("name: generic\n")));
  const std::string text = read_file(file);
  const Json defaults = to_json(load("name: generic\n"));
  for (const auto& entry : defaults.items()) EXPECT_THAT(text, HasSubstr("\n" + entry.key() + ":"));
}

TEST(ClusterSettings, AWrongKeyNamesItsLineAndTheNearestKey) {
  EXPECT_THAT(refusal("name: c\npartion: main\n"),
              AllOf(HasSubstr("cluster.yaml:2: partion: found an unknown key"), HasSubstr("did you mean partition?")));
}

TEST(ClusterSettings, WhatHasNoNameIsRefused) {
  EXPECT_THAT(refusal("partition: main\n"), HasSubstr("name: found nothing"));
}

TEST(ClusterSettings, AWrongChoiceNamesWhatThereIs) {
  EXPECT_THAT(refusal("name: c\nlauncher: {program: aprun}\n"),
              HasSubstr("cluster.yaml:2: launcher.program: found the text \"aprun\", expected srun or mpirun"));
}

// Guards: nothing that sbatch would take for its script, and no option that filo's own bookkeeping rests on.
TEST(ClusterSettings, SbatchOptionsAreLongOptionsThatFiloDoesNotSet) {
  EXPECT_EQ(load("name: c\nsbatch_options: ['--exclude=n1', '--mail-type=NONE']\n").sbatch_options.size(), 2u);
  EXPECT_THAT(refusal("name: c\nsbatch_options: ['-N1']\n"), HasSubstr("long form"));
  EXPECT_THAT(refusal("name: c\nsbatch_options: [script.sh]\n"), HasSubstr("long form"));
  EXPECT_THAT(refusal("name: c\nsbatch_options: ['--array=1-3']\n"), HasSubstr("--array is set by filo"));
}

TEST(ClusterSettings, EnvironmentNamesAreVariableNames) {
  EXPECT_EQ(load("name: c\nenvironment: {A_1: 'x $(y) \"z\"'}\n").environment.at("A_1"), "x $(y) \"z\"");
  EXPECT_THAT(refusal("name: c\nenvironment: {'A;rm': x}\n"), HasSubstr("environment: found"));
  EXPECT_THAT(refusal("name: c\nenvironment: {1A: x}\n"), HasSubstr("environment: found"));
}

// Guards: a site's limits are written as a stage's resources are.
TEST(ClusterSettings, LimitsAreTimesAndMemories) {
  EXPECT_EQ(load("name: c\nmax_time: '24:00:00'\nmax_memory: 180G\n").max_memory, "180G");
  EXPECT_THAT(refusal("name: c\nmax_time: 1 day\n"), HasSubstr("hours:minutes:seconds"));
  EXPECT_THAT(refusal("name: c\nmax_memory: 180X\n"), HasSubstr("digits and one of K, M, G, T"));
}

TEST(ClusterSettings, AModuleIsNoOption) {
  EXPECT_THAT(refusal("name: c\nmodules: ['-f x']\n"), HasSubstr("modules[0]"));
}

TEST(ClusterSettings, PathsOnNodesAreAbsolute) {
  EXPECT_THAT(refusal("name: c\nworker: build/bin/filo-worker\n"), HasSubstr("an absolute path"));
}

TEST(ClusterSettings, TheResolvedFormReadsBack) {
  const ClusterSettings settings = load(
      "name: c\npartition: -x\ngpus: {form: gpus-per-task, type: a100}\nmemory: none\nlauncher: {program: mpirun, "
      "arguments: [--mca, btl, 'tcp,self']}\nwatch: {time: '00:30:00'}\n");
  EXPECT_EQ(to_json(cluster_settings_from_json(to_json(settings), "here")), to_json(settings));
  EXPECT_EQ(settings.gpu_form, GpuForm::gpus_per_task);
  EXPECT_EQ(settings.launcher, LauncherProgram::mpirun);
}

}  // namespace
}  // namespace filo
