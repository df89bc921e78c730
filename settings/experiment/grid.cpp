#include "settings/experiment/grid.hpp"

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "base/error.hpp"
#include "settings/experiment/experiment.hpp"
#include "settings/experiment/schema.hpp"

namespace filo {
namespace {

constexpr std::size_t section_count = 4;

void refuse(const Experiment& experiment, const SourceValue& at, const std::string& key, const std::string& problem) {
  Problems problems(experiment.files);
  problems.add(at, key, problem);
  problems.throw_if_any();
}

// One section (model, train, ...) with a set of values applied, resolved and typed; `settings` is of this section only.
struct Section {
  std::size_t number = 0;
  Json resolved;
  ExperimentSettings settings;
};

// The sections of the grid's points: each is resolved once for each set of values that its keys take.
class Sections {
 public:
  explicit Sections(const Experiment& experiment) : experiment_(experiment) {
    for (std::size_t i = 0; i < section_count; ++i) {
      const SourceValue* written = experiment.source.find(section_names()[i]);
      bases_[i] = written == nullptr || written->is_absent()
                      ? SourceValue{.kind = SourceValue::Kind::map, .line = experiment.source.line, .fields = {}}
                      : *written;
    }
  }

  const Section& get(std::size_t index, const std::vector<const PointValues*>& chosen) {
    const std::string& name = section_names()[index];
    std::string signature;
    for_each_value_of(index, chosen, [&](const std::string& key, const SourceValue& value) {
      signature += key + "@" + std::to_string(reinterpret_cast<std::uintptr_t>(&value)) + " ";
    });
    auto& known = known_[index];
    if (const auto found = known.find(signature); found != known.end()) return found->second;
    SourceValue source = bases_[index];
    for_each_value_of(index, chosen, [&](const std::string& key, const SourceValue& value) {
      source.set_dotted(key.substr(name.size() + 1), value);
    });
    Problems problems(experiment_.files);
    Section made{
        .number = known.size(), .resolved = resolve(schema_of(index, source), source, name, problems), .settings = {}};
    problems.throw_if_any();
    made.settings = settings_of(index, made.resolved);
    return known.emplace(signature, std::move(made)).first->second;
  }

 private:
  template <typename Use>
  static void for_each_value_of(std::size_t index, const std::vector<const PointValues*>& chosen, const Use& use) {
    for (const PointValues* assignment : chosen)
      for (const auto& [key, value] : *assignment)
        if (section_of(key) == index) use(key, value);
  }

  const Schema& schema_of(std::size_t index, const SourceValue& source) const {
    const bool release = index == 0 && profile_of(&source) == Profile::filo_release;
    return (release ? release_ : paper_).fields[index].schema;
  }

  static ExperimentSettings settings_of(std::size_t index, const Json& resolved) {
    ExperimentSettings settings;
    if (index == 0) settings.model = model_settings_of(resolved);
    if (index == 1) settings.train = train_settings_of(resolved);
    if (index == 2) settings.evaluate = evaluate_settings_of(resolved);
    if (index == 3) settings.resources = resource_settings_of(resolved);
    return settings;
  }

  const Experiment& experiment_;
  const Schema paper_ = settings_schema(Profile::paper), release_ = settings_schema(Profile::filo_release);
  std::array<SourceValue, section_count> bases_;
  std::array<std::unordered_map<std::string, Section>, section_count> known_;
};

// The assignments of the groups that make number `number` of their product, the last group fastest.
void choose(const std::vector<AxisGroup>& groups, std::size_t number, std::vector<const PointValues*>& chosen) {
  const auto first = static_cast<std::ptrdiff_t>(chosen.size());
  for (auto group = groups.rbegin(); group != groups.rend(); ++group) {
    chosen.push_back(&group->values[number % group->values.size()]);
    number /= group->values.size();
  }
  std::reverse(chosen.begin() + first, chosen.end());
}

struct VariedKey {
  std::string name;  // "model.prompts.filter"
  std::size_t section = 0;
  std::string within_section;  // "prompts.filter"
};

class Expansion {
 public:
  explicit Expansion(const Experiment& experiment)
      : experiment_(experiment),
        grid_(experiment.grid),
        size_(grid_size(experiment)),
        sections_(experiment),
        matched_(experiment.exclude.size(), false) {
    for (const auto& key : experiment.grid.varied_keys()) {
      const std::size_t section = section_of(key);
      keys_.push_back({key, section, key.substr(section_names()[section].size() + 1)});
    }
  }

  void run(const std::function<void(const Variant&)>& use) {
    const std::map<std::string, std::size_t> unnamed = unnamed_points();
    bool any = false;
    for (std::size_t point = 0; point < size_.points; ++point)
      for (std::size_t repeat = 0; repeat < size_.repeats; ++repeat) {
        const Variant variant = make(point, repeat);
        if (point < size_.product && repeat == 0) refuse_twice(variant.axis_values, unnamed);
        if (variant.folds.empty()) continue;
        any = true;
        use(variant);
      }
    for (std::size_t i = 0; i < matched_.size(); ++i)
      if (!matched_[i] && !experiment_.exclude[i].may_match_nothing)
        refuse(experiment_, experiment_.exclude[i].written, "exclude[" + std::to_string(i) + "]",
               "found a condition that no trial meets, expected one that leaves out something");
    if (!any)
      throw UsageError("settings: " + experiment_.path + ": exclude",
                       "found nothing left of the grid, expected a trial");
  }

 private:
  Variant make(std::size_t point, std::size_t repeat) {
    std::vector<const PointValues*> chosen;  // outermost first
    const bool is_extra = point >= size_.product;
    if (is_extra)
      chosen.push_back(&grid_.points[point - size_.product].values);
    else
      choose(grid_.groups, point, chosen);
    choose(grid_.repeats, repeat, chosen);

    Variant variant;
    std::array<const Section*, section_count> sections{};
    for (std::size_t i = 0; i < section_count; ++i) {
      sections[i] = &sections_.get(i, chosen);
      variant.sections[i] = sections[i]->number;
    }
    variant.settings = {sections[0]->settings.model, sections[1]->settings.train, sections[2]->settings.evaluate,
                        sections[3]->settings.resources};
    for (const auto& key : keys_)
      variant.axis_values[key.name] = *find_dotted(sections[key.section]->resolved, key.within_section);
    if (is_extra && !grid_.points[point - size_.product].name.empty())
      variant.axis_values["name"] = grid_.points[point - size_.product].name;
    const std::size_t seeds = size_.repeats / (experiment_.search ? grid_.repeats.front().values.size() : 1);
    variant.grid_point = point * seeds + repeat % seeds;
    for (std::size_t i = 0; i < experiment_.folds.size(); ++i)
      if (!excluded(experiment_.folds[i].name, variant.axis_values)) variant.folds.push_back(i);
    return variant;
  }

  bool excluded(const std::string& fold, const std::map<std::string, Json>& axis_values) {
    bool is_excluded = false;
    for (std::size_t i = 0; i < experiment_.exclude.size(); ++i)
      if (experiment_.exclude[i].matches(fold, axis_values)) is_excluded = matched_[i] = true;
    return is_excluded;
  }

  // Values -> index of the extra points without a name: one that the product has too was meant to be another one.
  std::map<std::string, std::size_t> unnamed_points() {
    std::map<std::string, std::size_t> points;
    if (size_.product > 0)
      for (std::size_t i = 0; i < grid_.points.size(); ++i)
        if (grid_.points[i].name.empty()) points.emplace(Json(make(size_.product + i, 0).axis_values).dump(), i);
    return points;
  }

  void refuse_twice(const std::map<std::string, Json>& axis_values,
                    const std::map<std::string, std::size_t>& unnamed) const {
    if (unnamed.empty()) return;
    const auto found = unnamed.find(Json(axis_values).dump());
    if (found != unnamed.end())
      refuse(experiment_, grid_.points[found->second].written, "include",
             "found a point that the axes have too, expected one beside the grid");
  }

  const Experiment& experiment_;
  const Grid& grid_;
  const GridSize size_;
  std::vector<VariedKey> keys_;
  Sections sections_;
  std::vector<bool> matched_;  // by `exclude`: a trial met it
};

}  // namespace

GridSize grid_size(const Experiment& experiment) {
  const auto bounded = [&](std::size_t trials) {
    if (trials <= most_trials) return trials;
    throw UsageError("settings: " + experiment.path + ": axes",
                     "found more than " + std::to_string(most_trials) + " trials, expected at most that many");
  };
  const Grid& grid = experiment.grid;
  GridSize size;
  size.product = grid.groups.empty() && !grid.points.empty() ? 0 : 1;
  for (const auto& group : grid.groups) size.product = bounded(size.product * group.values.size());
  size.points = bounded(size.product + grid.points.size());
  for (const auto& group : grid.repeats) size.repeats = bounded(size.repeats * group.values.size());
  bounded(size.points * size.repeats);
  bounded(size.points * size.repeats * experiment.folds.size());
  return size;
}

void for_each_variant(const Experiment& experiment, const std::function<void(const Variant&)>& use) {
  if (experiment.has_own_trials()) Expansion(experiment).run(use);
}

std::vector<Variant> expand(const Experiment& experiment) {
  std::vector<Variant> variants;
  for_each_variant(experiment, [&](const Variant& variant) { variants.push_back(variant); });
  return variants;
}

}  // namespace filo
