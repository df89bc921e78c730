#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "app/filo/commands.hpp"
#include "app/filo/removal.hpp"
#include "app/filo/terminal_progress.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/error.hpp"
#include "base/files.hpp"
#include "base/signals.hpp"
#include "data/shards/cache_care.hpp"
#include "scheduler/control/run.hpp"
#include "scheduler/executors/local_executor.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "scheduler/report/logs.hpp"
#include "workspace/run_file.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// One folder of WORKSPACE/features.
struct Cache {
  std::string key;
  std::string dataset;                     // "" where its stage is gone
  std::vector<std::string> experiments;    // whose plans name it
  std::optional<FeatureCache> manifest{};  // none: unfinished, or damaged
  std::string state;                       // "finished", "unfinished", or what is wrong with its manifest
  std::uintmax_t bytes = 0;                // of all its files
  std::vector<fs::path> set_aside{};
};

// {features stage: experiments whose plans name it}. Throws as load_plan(): what an experiment needs is not guessed.
std::map<std::string, std::vector<std::string>> experiments_by_cache(const Workspace& workspace) {
  std::map<std::string, std::vector<std::string>> named;
  for (const std::string& name : experiment_names(workspace))
    for (const PlannedStage& stage : load_plan(workspace, name).stages)
      if (stage.kind == StageKind::features) named[stage.key].push_back(name);
  return named;
}

std::string dataset_of(const Workspace& workspace, const std::string& key) {
  const auto spec = read_json_if_sound(workspace.spec_file(key));
  return spec && spec->is_object() ? text_of(spec->value(spec_member::dataset, Json::object()), "name") : "";
}

Cache cache_of(const Workspace& workspace, const std::string& key, std::vector<std::string> experiments) {
  const fs::path folder = workspace.features_folder(key);
  Cache cache{.key = key,
              .dataset = dataset_of(workspace, key),
              .experiments = std::move(experiments),
              .state = "finished",
              .bytes = bytes_below(folder),
              .set_aside = set_aside_files(folder)};
  try {
    if (fs::exists(features_manifest(folder)))
      cache.manifest = read_feature_cache(folder);
    else
      cache.state = "unfinished";
  } catch (const Error& error) {
    cache.state = error.what();
  }
  return cache;
}

std::vector<Cache> caches(const Workspace& workspace) {
  const auto named = experiments_by_cache(workspace);
  std::vector<Cache> all;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.root() / "features", error)) {
    const std::string key = entry.path().filename().string();
    if (!is_stage_key(key)) continue;
    const auto found = named.find(key);
    all.push_back(cache_of(workspace, key, found == named.end() ? std::vector<std::string>() : found->second));
  }
  std::ranges::sort(all, {}, &Cache::key);
  return all;
}

// The cache whose key begins with `digits`. Throws UsageError when there is none, or more than one.
std::string find_cache(const Workspace& workspace, const std::string& digits) {
  const std::string key = find_stage(workspace, digits);
  if (workspace.kind(key) != StageKind::features)
    throw UsageError("features: " + key, "is a stage of kind " + to_string(workspace.kind(key)) +
                                             ", expected one of kind features: `filo features list` names them");
  return key;
}

Json to_json(const Cache& cache) {
  Json json = {{"key", cache.key},     {"dataset", cache.dataset}, {"experiments", cache.experiments},
               {"state", cache.state}, {"bytes", cache.bytes},     {"set_aside", Json::array()}};
  for (const fs::path& file : cache.set_aside) json["set_aside"].push_back(file.filename().string());
  if (cache.manifest) {
    json["samples"] = cache.manifest->samples;
    json["shards"] = cache.manifest->shards;
    json["layout"] = to_json(cache.manifest->layout);
    json["made_by"] = cache.manifest->key;
  }
  return json;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "no experiment" : text;
}

void print_line(const Cache& cache) {
  std::printf("%s  %-16s %10s  ", cache.key.c_str(), cache.dataset.empty() ? "-" : cache.dataset.c_str(),
              size_text(cache.bytes).c_str());
  if (cache.manifest) {
    std::printf("%zu %s in %zu shards", cache.manifest->samples, unit_of_samples(cache.manifest->key),
                cache.manifest->shards);
  } else {
    std::printf("%s", cache.state.c_str());
  }
  if (!cache.set_aside.empty()) std::printf(", %zu set aside", cache.set_aside.size());
  std::printf("  (%s)\n", joined(cache.experiments).c_str());
}

Command define_list(CLI::App& command) {
  const auto json = std::make_shared<bool>(false);
  const auto workspace = workspace_option(command);
  command.add_flag("--json", *json, "Print the list as JSON");
  return [json, workspace] {
    const Workspace opened(*workspace, Workspace::Access::read);
    const auto all = caches(opened);
    Json list = Json::array();
    for (const Cache& cache : all) {
      if (*json)
        list.push_back(to_json(cache));
      else
        print_line(cache);
    }
    if (*json)
      std::cout << list.dump(2) << "\n";
    else if (all.empty())
      std::printf("no feature caches in workspace %s: `filo run` makes them\n", workspace->c_str());
    return 0;
  };
}

struct KeyOptions {
  std::string key;
  bool json = false;
};

std::shared_ptr<KeyOptions> key_option(CLI::App& command, const char* what_json_is) {
  auto options = std::make_shared<KeyOptions>();
  command.add_option("KEY", options->key, "Key of the cache, or its first digits (filo features list)")->required();
  command.add_flag("--json", options->json, what_json_is);
  return options;
}

Command define_show(CLI::App& command) {
  const auto workspace = workspace_option(command);
  const auto options = key_option(command, "Print JSON");
  return [options, workspace] {
    const Workspace opened(*workspace, Workspace::Access::read);
    const std::string key = find_cache(opened, options->key);
    const auto named = experiments_by_cache(opened);
    const Cache cache = cache_of(opened, key, named.contains(key) ? named.at(key) : std::vector<std::string>());
    if (options->json) {
      std::cout << to_json(cache).dump(2) << "\n";
      return 0;
    }
    print_line(cache);
    std::printf("  in %s\n", opened.features_folder(key).c_str());
    if (cache.manifest)
      std::printf("  layout   %s\n  made by  %s\n", to_json(cache.manifest->layout).dump().c_str(),
                  cache.manifest->key.dump().c_str());
    for (const fs::path& file : cache.set_aside) std::printf("  set aside as damaged: %s\n", file.filename().c_str());
    return 0;
  };
}

Json to_json(const std::vector<ShardProblem>& problems) {
  Json list = Json::array();
  for (const ShardProblem& problem : problems)
    list.push_back({{"file", problem.file}, {"reason", problem.reason}, {"images", problem.images}});
  return list;
}

Command define_verify(CLI::App& command) {
  const auto workspace = workspace_option(command);
  const auto options = key_option(command, "Print the problems as JSON");
  return [options, workspace] {
    const Workspace opened(*workspace, Workspace::Access::read);
    const std::string key = find_cache(opened, options->key);
    const auto problems = verify_features(opened.features_folder(key), terminal_progress("verifying"));
    if (options->json)
      std::cout << Json({{"key", key}, {"problems", to_json(problems)}}).dump(2) << "\n";
    else if (problems.empty())
      std::printf("%s: every byte is as it was written\n", key.c_str());
    if (problems.empty()) return 0;
    std::string text = std::to_string(problems.size()) + (problems.size() == 1 ? " problem" : " problems");
    for (const ShardProblem& problem : problems)
      text += "\n  " + problem.file + " (" + std::to_string(problem.images) + " images): " + problem.reason;
    throw Error("features: " + key, text + "\n`filo features repair " + key + "` makes them anew");
  };
}

// Who starts the stage when its result is withdrawn, "" where nobody does.
std::string who_looks_after(const Workspace& workspace, const std::vector<std::string>& experiments) {
  for (const std::string& name : experiments)
    if (workspace.active(name) || !living_runs(workspace, name).empty()) return name;
  return "";
}

// The stage alone, on this machine.
int run_stage_alone(const Workspace& workspace, const std::string& key, const std::string& experiment,
                    std::ostream& out) {
  install_stop_handlers();
  Plan plan = load_plan(workspace, experiment);
  std::erase_if(plan.stages, [&](const PlannedStage& stage) { return stage.key != key; });
  plan.trials.clear();
  plan.searches.clear();
  plan.experiment.erase("tracking");
  LocalExecutor executor(workspace, find_worker());
  std::vector<StageStatus> statuses;
  {
    RunProgress progress(workspace, plan, out, isatty(STDOUT_FILENO) != 0);
    statuses = run_plan(workspace, plan, executor, progress, {.stop = [] { return stop_requested() != 0; }});
  }
  if (all_done(statuses)) return 0;
  if (!is_settled(statuses)) {
    std::cerr << "filo: stopped; the same command goes on from here\n";
    return static_cast<int>(ExitCode::stopped_early);
  }
  throw Error("features: " + key, statuses.at(0).reason + " (filo logs " + key + " shows more)");
}

int repair(const KeyOptions& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::change);
  const std::string key = find_cache(workspace, options.key);
  const fs::path folder = workspace.features_folder(key);
  std::ostream& out = options.json ? std::cerr : std::cout;
  const auto named = experiments_by_cache(workspace);
  if (!named.contains(key))
    throw UsageError("features: " + key,
                     "no experiment's plan names it, expected one that does: plan it again, or "
                     "remove the cache with `filo features gc`");
  const auto problems = verify_features(folder, terminal_progress("verifying"));
  for (const ShardProblem& problem : problems) {
    out << "set aside: " << problem.file << " (" << problem.images << " images): " << problem.reason << "\n";
    set_aside(folder / problem.file);
  }
  if (!problems.empty()) workspace.withdraw_result(key);
  const bool is_done = workspace.result(key, StageKind::features).has_value();
  const std::string keeper = is_done ? "" : who_looks_after(workspace, named.at(key));
  int code = 0;
  if (is_done)
    out << key << ": every byte is as it was written; there is nothing to repair\n";
  else if (!keeper.empty())
    out << key << ": experiment " << keeper << " is looked after, whose next pass makes what is missing\n";
  else
    code = run_stage_alone(workspace, key, named.at(key).front(), out);
  if (options.json)
    std::cout << Json({{"key", key}, {"problems", to_json(problems)}, {"left_to", keeper}}).dump(2) << "\n";
  return code;
}

Command define_repair(CLI::App& command) {
  const auto workspace = workspace_option(command);
  const auto options = key_option(command, "Print what was found as JSON on stdout, all else on stderr");
  return [options, workspace] { return repair(*options, *workspace); };
}

struct GcOptions {
  bool yes = false;
  bool json = false;
};

int gc(const GcOptions& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::change);
  std::vector<Cache> unnamed;
  std::vector<fs::path> files;  // set aside, in caches that stay
  std::uintmax_t bytes = 0;
  for (Cache& cache : caches(workspace)) {
    if (cache.experiments.empty()) {
      bytes += cache.bytes;
      unnamed.push_back(std::move(cache));
    } else if (cache.manifest) {
      for (const fs::path& file : cache.set_aside) {
        bytes += fs::file_size(file);
        files.push_back(file);
      }
    }
  }
  Json json = {{"caches", Json::array()}, {"files", Json::array()}, {"bytes", bytes}, {"removed", false}};
  for (const Cache& cache : unnamed) json["caches"].push_back(cache.key);
  for (const fs::path& file : files) json["files"].push_back(file.string());
  if (!options.json) {
    for (const Cache& cache : unnamed) print_line(cache);
    for (const fs::path& file : files) std::printf("%s, set aside as damaged\n", file.c_str());
    if (unnamed.empty() && files.empty())
      std::printf("nothing to remove: an experiment names every cache\n");
    else
      std::printf("%zu caches that no experiment names and %zu files that were set aside: %s\n", unnamed.size(),
                  files.size(), size_text(bytes).c_str());
  }
  bool agreed = options.yes;
  if (!agreed && !options.json && !(unnamed.empty() && files.empty())) agreed = is_agreed_to("features: gc");
  if (agreed) {
    const FileDescriptor held = workspace.lock();  // nothing is planned or started meanwhile
    const auto named = experiments_by_cache(workspace);
    for (const Cache& cache : unnamed) {
      if (named.contains(cache.key)) continue;  // by now
      workspace.withdraw_result(cache.key);
      fs::remove_all(workspace.features_folder(cache.key));
    }
    for (const fs::path& file : files) fs::remove(file);
    json["removed"] = true;
  }
  if (options.json) std::cout << json.dump(2) << "\n";
  return 0;
}

Command define_gc(CLI::App& command) {
  const auto options = std::make_shared<GcOptions>();
  const auto workspace = workspace_option(command);
  command.add_flag("--yes,-y", options->yes, "Do not ask");
  command.add_flag("--json", options->json, "Print what would go as JSON; with --yes it goes");
  return [options, workspace] { return gc(*options, *workspace); };
}

}  // namespace

void add_features_command(CLI::App& program) {
  CLI::App& features =
      add_command_family(program, "features", "Feature caches of a workspace: list, show, verify, repair, gc");
  add_command(features, "list", "The caches: their data sets, sizes, and the experiments that need them", define_list);
  add_command(features, "show", "What one cache holds, and what it was made by", define_show);
  add_command(features, "verify", "Read every byte of a cache and compare it with its checksums", define_verify);
  add_command(features, "repair", "Make the damaged and missing shards of a cache anew", define_repair);
  add_command(features, "gc", "Remove caches that no experiment names, and what was set aside; asks first", define_gc);
}

}  // namespace filo
