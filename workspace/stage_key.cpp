#include "workspace/stage_key.hpp"

#include <charconv>
#include <initializer_list>

#include "base/error.hpp"
#include "base/hash.hpp"

namespace filo {
namespace {

constexpr std::size_t key_digits = 16;

}  // namespace

std::string to_string(StageKind kind) {
  switch (kind) {
    case StageKind::features:
      return "features";
    case StageKind::boxes:
      return "boxes";
    case StageKind::train:
      return "train";
    case StageKind::evaluate:
      return "evaluate";
    case StageKind::exported:
      return "export";
  }
  return "";
}

StageKind stage_kind(const std::string& name) {
  for (const StageKind kind :
       {StageKind::features, StageKind::boxes, StageKind::train, StageKind::evaluate, StageKind::exported})
    if (to_string(kind) == name) return kind;
  throw Error("workspace",
              "found the kind of stage \"" + name + "\", expected features, boxes, train, evaluate or export");
}

Json key_view(Json spec) {
  const auto erase = [](Json* object, std::initializer_list<const char*> path, const char* last) {
    for (const char* name : path) {
      if (!object->is_object() || !object->contains(name)) return;
      object = &(*object)[name];
    }
    if (object->is_object()) object->erase(last);
  };
  erase(&spec, {"clip"}, "path");
  erase(&spec, {"model"}, "clip");
  erase(&spec, {"model", "prompts"}, "descriptions");
  erase(&spec, {"boxes"}, "path");
  erase(&spec, {"checkpoint"}, "path");
  erase(&spec, {"dataset"}, "name");
  erase(&spec, {"train_dataset"}, "name");
  for (const char* list : {"datasets", "train_datasets"})
    if (spec.contains(list) && spec[list].is_array())
      for (auto& dataset : spec[list]) erase(&dataset, {}, "name");
  for (const char* how_often : {"snapshot_every_steps", "verify_every_steps"}) erase(&spec, {"train"}, how_often);
  for (const char* how_often : {"every_steps", "every_minutes", "keep"})
    erase(&spec, {"train", "snapshots"}, how_often);
  if (spec.contains("train") && spec["train"].is_object() && spec["train"].contains("snapshots") &&
      spec["train"]["snapshots"] == Json{{"best_by", "none"}})
    spec["train"].erase("snapshots");
  return spec;
}

std::string stage_key(const Json& spec) { return sha256_hex(canonical_json(key_view(spec))).substr(0, key_digits); }

bool is_stage_key(std::string_view text) {
  return text.size() == key_digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::uint64_t key_number(const std::string& key) {
  std::uint64_t number = 0;
  std::from_chars(key.data(), key.data() + key.size(), number, 16);
  return number;
}

}  // namespace filo
