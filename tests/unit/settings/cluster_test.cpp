#include "settings/cluster.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/scratch_folder.hpp"
#include "base/error.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

ClusterSettings load(const std::string& yaml) {
  return load_cluster_settings(ScratchFolder().write("cluster.yaml", yaml));
}

// Guards: generic.yaml documents every key, with its default.
TEST(ClusterSettings, GenericFileHoldsEveryDefault) {
  const std::string file = std::string(FILO_SOURCE_DIR) + "/configs/clusters/generic.yaml";
  EXPECT_EQ(to_json(load_cluster_settings(file)), to_json(load("name: generic\n")));
  const std::string text = read_file(file);
  const Json defaults = to_json(load("name: generic\n"));
  for (const auto& entry : defaults.items()) EXPECT_THAT(text, HasSubstr("\n" + entry.key() + ":"));
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
