#include "scheduler/report/checkpoints.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/removal.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/error.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "scheduler/report/checkpoint_rows.hpp"
#include "scheduler/report/formats.hpp"
#include "workspace/artifacts.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// What the commands of the family take, each what it needs.
struct Options {
  std::string checkpoint, other, experiment, metric, tag, folder, evaluation;
  std::vector<std::string> conditions;
  bool json = false, yes = false, remove = false;
};

void add_checkpoint(CLI::App& command, std::string& value, const char* name = "CHECKPOINT") {
  command.add_option(name, value, "A tag, or the first digits of a digest (filo checkpoints list)")->required();
}

void add_json(CLI::App& command, Options& options) { command.add_flag("--json", options.json, "Print JSON"); }

// A command that looks at, or changes, one workspace; `define` adds its own options.
using Action = int (*)(const Options&, const Workspace&);
void add(CLI::App& family, const std::string& name, const std::string& summary, Workspace::Access access, Action action,
         const std::function<void(CLI::App&, Options&)>& define) {
  add_command(family, name, summary, [=](CLI::App& command) -> Command {
    const auto options = std::make_shared<Options>();
    const auto workspace = workspace_option(command);
    define(command, *options);
    return [=] { return action(*options, Workspace(*workspace, access)); };
  });
}

std::string table_text(const std::vector<CheckpointRow>& rows, const std::string& metric) {
  const std::string text = to_terminal(checkpoint_table(rows, metric));
  return text.substr(text.find_first_not_of('\n'));  // it has no title
}

void print_rows(const std::vector<CheckpointRow>& rows, const Options& options) {
  if (!options.json) {
    std::cout << table_text(rows, options.metric);
    return;
  }
  Json list = Json::array();
  for (const CheckpointRow& row : rows) list.push_back(to_json(row));
  std::cout << list.dump(2) << "\n";
}

std::vector<RowCondition> conditions_of(const Options& options) {
  std::vector<RowCondition> conditions;
  for (const std::string& text : options.conditions) conditions.push_back(parse_condition(text));
  return conditions;
}

int list(const Options& options, const Workspace& workspace) {
  auto rows = where(checkpoint_rows(workspace), conditions_of(options));
  if (!options.metric.empty()) sort_by_metric(rows, options.metric);
  if (rows.empty() && !options.json)
    std::printf(options.conditions.empty() ? "no checkpoints in workspace %s: finished trainings leave them\n"
                                           : "no checkpoint in workspace %s meets all conditions\n",
                workspace.root().c_str());
  else
    print_rows(rows, options);
  return 0;
}

int best(const Options& options, const Workspace& workspace) {
  auto rows = where(checkpoint_rows(workspace), {{"experiment", "=", options.experiment}});
  sort_by_metric(rows, options.metric);
  std::erase_if(rows, [&](const CheckpointRow& row) { return !row.members.contains(options.metric); });
  if (rows.empty())
    throw UsageError("checkpoints: experiment " + options.experiment,
                     "found no collected checkpoint of it with " + options.metric + " in " + workspace.root().string() +
                         ", expected an experiment of which an evaluation is done (filo checkpoints list)");
  rows.resize(1);
  print_rows(rows, options);
  return 0;
}

int show(const Options& options, const Workspace& workspace) {
  const std::string digest = find_artifact(workspace, options.checkpoint);
  auto rows = where(checkpoint_rows(workspace), {{"digest", "=", digest}});
  if (options.json) {
    print_rows(rows, options);
    return 0;
  }
  std::cout << "checkpoint " << digest << "\n  in " << workspace.artifact_folder(digest).string() << "\n";
  const auto told = [](const char* title, const std::optional<Json>& record) {
    if (record)
      std::cout << "\n" << title << "\n" << record->dump(2) << "\n";
    else
      std::cout << "\n" << title << ": unknown\n";
  };
  std::cout << "\n" << table_text(rows, "");
  told("training", rows.front().training);
  for (const CheckpointRow& row : rows) told("evaluation", row.evaluation);
  return 0;
}

int verify(const Options& options, const Workspace& workspace) {
  std::vector<std::string> digests;
  if (options.checkpoint.empty())
    digests = artifact_digests(workspace);
  else
    digests.push_back(find_artifact(workspace, options.checkpoint));
  if (digests.empty() && !options.json) std::printf("no checkpoints in workspace %s\n", workspace.root().c_str());
  Json found = Json::array();
  std::string text;
  std::size_t damaged = 0;
  for (const std::string& digest : digests) {
    const auto problems = artifact_problems(workspace, digest);
    found.push_back({{"digest", digest}, {"problems", problems}});
    if (!problems.empty()) ++damaged;
    for (const std::string& problem : problems) text += "\n  " + digest.substr(0, digits_shown) + ": " + problem;
    if (problems.empty() && !options.json)
      std::printf("%s: every byte is as it was collected\n", digest.substr(0, digits_shown).c_str());
  }
  if (options.json) std::cout << found.dump(2) << "\n";
  if (damaged == 0) return 0;
  throw Error("checkpoints: verify", std::to_string(damaged) + " of " + std::to_string(digests.size()) +
                                         (digests.size() == 1 ? " checkpoint is" : " checkpoints are") + " damaged" +
                                         text);
}

int diff(const Options& options, const Workspace& workspace) {
  const Json difference = checkpoint_difference(workspace, find_artifact(workspace, options.checkpoint),
                                                find_artifact(workspace, options.other));
  std::cout << (options.json ? difference.dump(2) + "\n" : difference_text(difference));
  return 0;
}

int tag(const Options& options, const Workspace& workspace) {
  const FileDescriptor held = workspace.lock();
  if (options.remove) {
    remove_tag(workspace, options.checkpoint);
    std::printf("tag %s is gone; its checkpoint stays\n", options.checkpoint.c_str());
    return 0;
  }
  if (options.tag.empty())
    throw UsageError("checkpoints: tag", "found no name, expected CHECKPOINT NAME, or TAG --remove");
  const std::string digest = find_artifact(workspace, options.checkpoint);
  tag_artifact(workspace, digest, options.tag);
  std::printf("%s is %s\n", options.tag.c_str(), digest.c_str());
  return 0;
}

// What neither a tag nor an experiment names.
std::vector<std::string> unnamed(const Workspace& workspace) {
  const auto named = checkpoints_of_experiments(workspace);
  const auto tags = artifact_tags(workspace);
  std::vector<std::string> digests = artifact_digests(workspace);
  std::erase_if(digests, [&](const std::string& digest) {
    return named.contains(digest) || std::ranges::any_of(tags, [&](const auto& tag) { return tag.second == digest; });
  });
  return digests;
}

int gc(const Options& options, const Workspace& workspace) {
  const auto shown = unnamed(workspace);
  std::uintmax_t bytes = 0;
  for (const std::string& digest : shown) bytes += bytes_below(workspace.artifact_folder(digest));
  Json json = {{"checkpoints", shown}, {"bytes", bytes}, {"removed", Json::array()}};
  if (!options.json) {
    auto rows = checkpoint_rows(workspace);
    std::erase_if(rows, [&](const CheckpointRow& row) { return !std::ranges::binary_search(shown, row.digest); });
    if (shown.empty())
      std::printf("nothing to remove: a tag or an experiment names every checkpoint\n");
    else
      std::printf("%s%zu checkpoints that no tag and no experiment names: %s\n", table_text(rows, "").c_str(),
                  shown.size(), size_text(bytes).c_str());
  }
  if (!shown.empty() && (options.yes || (!options.json && is_agreed_to("checkpoints: gc")))) {
    const FileDescriptor held = workspace.lock();  // nothing is planned, collected or tagged meanwhile
    const auto still = unnamed(workspace);
    for (const std::string& digest : shown) {
      if (!std::ranges::binary_search(still, digest)) continue;
      remove_artifact(workspace, digest);
      json["removed"].push_back(digest);
    }
  }
  if (options.json) std::cout << json.dump(2) << "\n";
  return 0;
}

int copy(const Options& options, const Workspace& workspace) {
  const std::string digest = find_artifact(workspace, options.checkpoint);
  copy_artifact(workspace, digest, options.folder);
  std::printf("%s: a copy of %s, whose digest was compared\n", options.folder.c_str(), digest.c_str());
  return 0;
}

int reproduce(const Options& options, const Workspace& workspace) {
  std::cout << experiment_that_reproduces(workspace, find_artifact(workspace, options.checkpoint), options.evaluation);
  return 0;
}

}  // namespace

void add_checkpoints_command(CLI::App& program) {
  constexpr auto read = Workspace::Access::read, change = Workspace::Access::change;
  CLI::App& family = add_command_family(
      program, "checkpoints",
      "Collected checkpoints of a workspace: list, show, verify, best, diff, tag, gc, copy, reproduce");
  add(family, "list", "The checkpoints and what they measured", read, list, [](CLI::App& command, Options& options) {
    command.add_option("--sort", options.metric, "Metric by which they are sorted, the largest first");
    command
        .add_option("--where", options.conditions,
                    "Condition: MEMBER, one of = != > >= < <=, VALUE, as image_auroc>0.9; repeatable, all have to hold")
        ->allow_extra_args(false);
    add_json(command, options);
  });
  add(family, "show", "All that is known of one checkpoint", read, show, [](CLI::App& command, Options& options) {
    add_checkpoint(command, options.checkpoint);
    add_json(command, options);
  });
  add(family, "verify", "Read every byte of a checkpoint, or of all, and name what is damaged", read, verify,
      [](CLI::App& command, Options& options) {
        command.add_option("CHECKPOINT", options.checkpoint, "A tag, or the first digits of a digest (default: all)");
        add_json(command, options);
      });
  add(family, "best", "The checkpoint of an experiment with the largest value of a metric", read, best,
      [](CLI::App& command, Options& options) {
        command.add_option("EXPERIMENT", options.experiment, "Name of the experiment")->required();
        command.add_option("--metric", options.metric, "The metric, as image_auroc")->required();
        add_json(command, options);
      });
  add(family, "diff", "What two checkpoints were made with and measured, where it differs", read, diff,
      [](CLI::App& command, Options& options) {
        add_checkpoint(command, options.checkpoint, "A");
        add_checkpoint(command, options.other, "B");
        add_json(command, options);
      });
  add(family, "tag", "Give a checkpoint a name, which keeps it; --remove takes a name away", change, tag,
      [](CLI::App& command, Options& options) {
        add_checkpoint(command, options.checkpoint);
        command.add_option("NAME", options.tag, "The tag");
        command.add_flag("--remove", options.remove, "Take the tag CHECKPOINT away; the checkpoint stays");
      });
  add(family, "gc", "Remove checkpoints that no tag and no experiment names; asks first", change, gc,
      [](CLI::App& command, Options& options) {
        command.add_flag("--yes,-y", options.yes, "Do not ask");
        command.add_flag("--json", options.json, "Print what would go as JSON; with --yes it goes");
      });
  add(family, "copy", "Copy a checkpoint with its manifest into a new folder", read, copy,
      [](CLI::App& command, Options& options) {
        add_checkpoint(command, options.checkpoint);
        command.add_option("FOLDER", options.folder, "Where to; it must not be there")->required();
      });
  add(family, "reproduce", "Print the experiment file and the commands that make a checkpoint again", read, reproduce,
      [](CLI::App& command, Options& options) {
        add_checkpoint(command, options.checkpoint);
        command.add_option(
            "--evaluation", options.evaluation,
            "First digits of the evaluation that is meant, where there are several (default: the first)");
      });
}

}  // namespace filo
