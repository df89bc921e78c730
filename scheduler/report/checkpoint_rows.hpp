// The collected checkpoints of a workspace as a table that can be filtered and sorted: `filo checkpoints list`.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "scheduler/report/tables.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Adds the settings of `value` by their dotted keys, below `key` ("": at the top): {"model.prompts.contexts": 12, ...}.
void flatten(const Json& value, const std::string& key, std::map<std::string, Json>& members);

// One evaluation of a collected checkpoint; one that was never evaluated has a row without.
struct CheckpointRow {
  std::string digest;
  std::optional<Json> training{};    // its record (workspace/manifest.hpp); unset: a former version collected it
  std::optional<Json> evaluation{};  // likewise; unset: none
  // What `--where` compares, by name: digest, tag, experiment, train_dataset (lists), test_dataset, seed, host, device,
  // version, every setting by its dotted key, every metric (parts of 1).
  std::map<std::string, Json> members{};
};

// By digest, then test data set. Throws as load_plan(): what experiments need is not guessed.
std::vector<CheckpointRow> checkpoint_rows(const Workspace& workspace);

// {digest: experiments whose plans name it}: their trainings were collected as it, or take it (train.checkpoint).
std::map<std::string, std::set<std::string>> checkpoints_of_experiments(const Workspace& workspace);

// "image_auroc>0.9", "train_dataset=visa": a member, one of = != > >= < <=, a value. Of a list, one value has to be
// equal, or none to. A member that a row lacks meets no condition.
struct RowCondition {
  std::string member, comparison, value;
};
RowCondition parse_condition(const std::string& text);  // throws UsageError
bool meets(const CheckpointRow& row, const RowCondition& condition);

// Those that meet all conditions. Throws UsageError on a member that no row has.
std::vector<CheckpointRow> where(std::vector<CheckpointRow> rows, const std::vector<RowCondition>& conditions);

// Largest first, those without it last. Throws UsageError on what is no metric.
void sort_by_metric(std::vector<CheckpointRow>& rows, const std::string& metric);

// As people read it; `metric`: a column beside the usual ones, "" for none.
TextTable checkpoint_table(const std::vector<CheckpointRow>& rows, const std::string& metric);
Json to_json(const CheckpointRow& row);  // digest, tags, experiments, training, evaluation: null where unknown

}  // namespace filo
