#include "data/datasets/dataset.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/terminal_progress.hpp"
#include "app/filo/workspace_option.hpp"
#include "data/datasets/sheet.hpp"
#include "data/generate/generate.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "workspace/workspace.hpp"

namespace filo {

namespace {

Json summary(const Dataset& dataset) {
  Json json = to_json(dataset);
  json["images"] = dataset.images.size();
  return json;
}

void print_summary(const Dataset& dataset) {
  std::printf("%s: %zu images, layout %s, digest %.12s\n  in %s\n", dataset.name.c_str(), dataset.images.size(),
              to_string(dataset.format).c_str(), dataset.digest.c_str(), dataset.root.c_str());
  int anomalous = 0, unmasked = 0;
  for (const auto& [name, counts] : dataset.classes) {
    std::printf("  %-24s train %5d   test %5d   anomalous %5d\n", name.c_str(), counts.train, counts.test,
                counts.anomalous);
    anomalous += counts.anomalous;
    unmasked += counts.unmasked;
  }
  if (unmasked > 0)
    std::printf("  %d of %d anomalous images have no mask: they count for image metrics only\n", unmasked, anomalous);
}

Command define_add(CLI::App& command) {
  struct Options {
    std::string path, name, format = "auto", table, masks = "auto", grey16;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("PATH", options->path, "The data set's folder")->required();
  command.add_option("--name", options->name, "Name to use in experiments: letters, digits and ._-")->required();
  command
      .add_option("--format", options->format,
                  "Layout: auto, mvtec (CLASS/train|test|ground_truth), visa (split_csv/1cls.csv),\n"
                  "meta (meta.json), folder (CLASS/good, CLASS/DEFECT, masks/),\n"
                  "table (a CSV or JSON lines file)")
      ->capture_default_str();
  command.add_option("--table", options->table,
                     "Layout table: its file, with the columns image and label, and where wanted mask, class,\n"
                     "split and defect (default: the only *.csv or *.jsonl in PATH)");
  command
      .add_option("--masks", options->masks,
                  "Which anomalous images need a mask: required (all), optional (none), none (none,\n"
                  "and those that are there are passed over), auto (all where any has one).\n"
                  "Those without count for image metrics only")
      ->capture_default_str();
  command.add_option("--grey16", options->grey16,
                     "LOW:HIGH, the samples of 16-bit grey images that become black and white, such as 0:4095 of a\n"
                     "12-bit camera (default: each sample's high byte is taken)");
  const auto workspace = workspace_option(command);
  command.add_flag("--json", options->json, "Print the result as JSON");
  return [options, workspace] {
    const bool makes_workspace = !std::filesystem::exists(*workspace);
    const ScanOptions scan = {
        .format = dataset_format_from(options->format),
        .table = options->table,
        .masks = mask_rule_from(options->masks),
        .grey16 = options->grey16.empty() ? std::nullopt : std::optional(grey16_range_from(options->grey16))};
    const AddedDataset added =
        add_dataset(*workspace, options->name, options->path, scan, terminal_progress("reading"));
    if (options->json) {
      Json json = summary(added.dataset);
      json["existed"] = added.existed;
      std::cout << json.dump(2) << "\n";
    } else {
      if (makes_workspace) std::printf("made the workspace %s\n", workspace->c_str());
      if (added.existed) std::printf("was there already, with the same content\n");
      print_summary(added.dataset);
    }
    return 0;
  };
}

Command define_verify(CLI::App& command) {
  struct Options {
    std::string name;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("NAME", options->name, "The data set's name")->required();
  const auto workspace = workspace_option(command);
  command.add_flag("--json", options->json, "Print the problems as JSON");
  return [options, workspace] {
    const Workspace opened(*workspace, Workspace::Access::read);
    const Dataset dataset = load_dataset(opened.root(), options->name);
    const auto problems = verify_dataset(dataset, terminal_progress("verifying"));
    if (options->json) {
      Json list = Json::array();
      for (const DatasetProblem& problem : problems)
        list.push_back({{"path", problem.path}, {"reason", problem.reason}});
      std::cout << Json({{"name", dataset.name}, {"images", dataset.images.size()}, {"problems", list}}).dump(2)
                << "\n";
    } else if (problems.empty()) {
      std::printf("%s: %zu images are as they were when added\n", dataset.name.c_str(), dataset.images.size());
    }
    if (!problems.empty()) throw DatasetError("dataset: " + dataset.name, problems, ExitCode::failed);
    return 0;
  };
}

Command define_list(CLI::App& command) {
  struct Options {
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  const auto workspace = workspace_option(command);
  command.add_flag("--json", options->json, "Print the list as JSON");
  return [options, workspace] {
    const Workspace opened(*workspace, Workspace::Access::read);
    Json list = Json::array();
    const auto names = list_datasets(opened.root());
    for (const std::string& name : names) {
      const Dataset dataset = load_dataset(opened.root(), name);
      if (options->json)
        list.push_back(summary(dataset));
      else
        print_summary(dataset);
    }
    if (options->json)
      std::cout << list.dump(2) << "\n";
    else if (names.empty())
      std::printf("no data sets in workspace %s (filo dataset add, filo dataset generate)\n", workspace->c_str());
    return 0;
  };
}

std::string size_text(const std::pair<int, int>& size) {
  return std::to_string(size.first) + " x " + std::to_string(size.second);
}

// The smallest and the largest, by their pixels.
std::string sizes_text(const DatasetGroup& group) {
  const auto smaller = [](const auto& a, const auto& b) {
    return std::int64_t{a.first.first} * a.first.second < std::int64_t{b.first.first} * b.first.second;
  };
  const auto [least, most] = std::minmax_element(group.size_counts.begin(), group.size_counts.end(), smaller);
  if (group.size_counts.size() == 1) return size_text(least->first);
  return size_text(least->first) + " to " + size_text(most->first) + ", " + std::to_string(group.size_counts.size()) +
         " sizes";
}

Json to_json(const DatasetGroup& group) {
  Json sizes = Json::array();
  for (const auto& [size, count] : group.size_counts)
    sizes.push_back({{"width", size.first}, {"height", size.second}, {"images", count}});
  return {{"class", group.class_name},     {"split", group.split}, {"label", group.label}, {"defect", group.defect},
          {"images", group.images.size()}, {"masks", group.masks}, {"sizes", sizes}};
}

void print_groups(const Dataset& dataset, const std::vector<DatasetGroup>& groups) {
  std::size_t masks = 0;
  for (const DatasetGroup& group : groups) masks += group.masks;
  std::printf("%s: %zu images, %zu masks, layout %s\n  in %s\n  digest %s\n", dataset.name.c_str(),
              dataset.images.size(), masks, to_string(dataset.format).c_str(), dataset.root.c_str(),
              dataset.digest.c_str());
  if (dataset.grey16) std::printf("  16-bit grey from %d to %d\n", dataset.grey16->low, dataset.grey16->high);
  std::printf("  %-20s %-6s %-24s %7s %7s   %s\n", "class", "split", "defect", "images", "masks", "pixels");
  for (const DatasetGroup& group : groups)
    std::printf("  %-20s %-6s %-24s %7zu %7zu   %s\n", group.class_name.c_str(), group.split.c_str(),
                group.defect.c_str(), group.images.size(), group.masks, sizes_text(group).c_str());
}

Command define_show(CLI::App& command) {
  struct Options {
    std::string name, sheet;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("NAME", options->name, "The data set's name")->required();
  command.add_option("--sheet", options->sheet,
                     "PNG file to write: a row of samples for each line of the table, masks outlined");
  const auto workspace = workspace_option(command);
  command.add_flag("--json", options->json, "Print the table as JSON");
  return [options, workspace] {
    const Workspace opened(*workspace, Workspace::Access::read);
    const Dataset dataset = load_dataset(opened.root(), options->name);
    const std::vector<DatasetGroup> groups = groups_of(dataset);
    if (options->json) {
      Json json = summary(dataset);
      json["groups"] = Json::array();
      for (const DatasetGroup& group : groups) json["groups"].push_back(to_json(group));
      std::cout << json.dump(2) << "\n";
    } else {
      print_groups(dataset, groups);
    }
    if (options->sheet.empty()) return 0;
    write_png(options->sheet, contact_sheet(groups, dataset, terminal_progress("drawing")));
    if (!options->json)
      std::printf("wrote %s: a row for each line above, up to eight images each\n", options->sheet.c_str());
    return 0;
  };
}

Command define_remove(CLI::App& command) {
  const auto name = std::make_shared<std::string>();
  command.add_option("NAME", *name, "The data set's name")->required();
  const auto workspace = workspace_option(command);
  return [name, workspace] {
    const Workspace opened(*workspace, Workspace::Access::change);
    const FileDescriptor lock = opened.lock();
    const std::vector<std::string> experiments = experiments_with_dataset(opened, *name);
    if (!experiments.empty()) {
      std::string names;
      for (const std::string& experiment : experiments) names += (names.empty() ? "" : ", ") + experiment;
      throw UsageError("dataset: " + *name, "is named by the plan of " + names +
                                                ", whose results tell of it, expected a data set that no experiment of "
                                                "this workspace names");
    }
    remove_dataset(opened.root(), *name);
    std::printf("removed %s from the workspace; its images are where they were\n", name->c_str());
    return 0;
  };
}

Command define_generate(CLI::App& command) {
  struct Options {
    GenerateOptions generate;
    std::string out;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  GenerateOptions& generate = options->generate;
  command
      .add_option("--family", generate.family,
                  "parts (MVTec's layout: washer, gear, bracket, dial) or\n"
                  "boards (VisA's layout: relay_board, keypad, display, chip_tray)")
      ->required();
  command.add_option("--out", options->out, "Folder to make; must not hold anything else")->required();
  add_number(command, "--seed", generate.seed, "Same seed, same pixels", std::uint64_t{0});
  add_number(command, "--size", generate.size, "Width and height in pixels", 32, 4096);
  add_number(command, "--train", generate.train, "Normal training images per class", 0, 100'000);
  add_number(command, "--good", generate.good, "Normal test images per class", 0, 100'000);
  add_number(command, "--defective", generate.defective, "Anomalous test images per class (seven kinds take turns)", 0,
             100'000);
  command.add_option("--classes", generate.classes, "Only these classes, comma separated")->delimiter(',');
  command.add_flag("--json", options->json, "Print the result as JSON");
  return [options] {
    options->generate.out = options->out;
    const GenerateResult result = generate_dataset(options->generate, terminal_progress("drawing"));
    if (options->json) {
      std::cout << Json({{"out", options->out},
                         {"images", result.images},
                         {"classes", result.classes},
                         {"existed", result.existed}})
                       .dump(2)
                << "\n";
    } else {
      std::printf("%s: %zu images of %zu classes%s\n", options->out.c_str(), result.images, result.classes.size(),
                  result.existed ? " (was there already)" : "");
    }
    return 0;
  };
}

}  // namespace

void add_dataset_command(CLI::App& program) {
  CLI::App& dataset =
      add_command_family(program, "dataset", "Data sets of a workspace: add, show, verify, list, remove, generate");
  add_command(dataset, "add", "Read a data set's folder and note what it holds", define_add);
  add_command(dataset, "show", "How many images of which kind a data set has, and what they look like", define_show);
  add_command(dataset, "verify", "Decode every file in full and compare it with what was added", define_verify);
  add_command(dataset, "list", "The data sets of the workspace", define_list);
  add_command(dataset, "remove", "Forget a data set that no experiment names; its images stay", define_remove);
  add_command(dataset, "generate", "Draw a data set of products with defects and exact masks", define_generate);
}

}  // namespace filo
