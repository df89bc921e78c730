#include "scheduler/plan/digests.hpp"

#include <sys/stat.h>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"
#include "settings/clip_digest.hpp"
#include "settings/experiment/experiment.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

ImageCounts image_counts(const Json& counts) {
  const auto count = [&](const char* key) -> std::optional<int> {
    const Json value = counts.is_object() ? counts.value(key, Json()) : Json();
    return value.is_number_integer() ? std::optional(value.get<int>()) : std::nullopt;
  };
  return {.train = count("train").value_or(0),
          .test = count("test").value_or(0),
          .anomalous = count("anomalous"),
          .unmasked = count("unmasked").value_or(0)};
}

// Changes whenever a file of the folder is replaced or rewritten.
Json fingerprint(const fs::path& folder) {
  Json files = Json::array();
  for (const auto& name : clip_files()) {
    struct stat status {};
    stat((folder / name).c_str(), &status);
    files.push_back({name, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ino});
  }
  return {{"folder", folder.string()}, {"files", files}};
}

std::string remembered_clip_digest(const Workspace& workspace, const fs::path& folder) {
  const Json wanted = fingerprint(folder);
  const fs::path file = workspace.cache_folder() / ("clip-" + sha256_hex(folder.string()).substr(0, 16) + ".json");
  std::error_code error;
  if (fs::exists(file, error)) {
    try {
      const Json cached = read_json(file);
      if (cached.at("fingerprint") == wanted) return cached.at("digest").get<std::string>();
    } catch (const std::exception&) {  // a cache that cannot be read is made again
    }
  }
  const std::string digest = clip_digest(folder);
  try {
    fs::create_directories(workspace.cache_folder(), error);
    write_json(file, {{"fingerprint", wanted}, {"digest", digest}});
  } catch (const Error& problem) {  // it is computed anew next time
    log_warning("plan: " + file.string() + ": the weights' digest is not kept: " + problem.what());
  }
  return digest;
}

void expect_positive(const Json& config, const char* key, const fs::path& path) {
  const Json vision = config.is_object() ? config.value("vision_config", Json::object()) : Json::object();
  const Json value = vision.is_object() ? vision.value(key, Json()) : Json();
  if (!value.is_number_integer() || value.get<std::int64_t>() < 1 || value.get<std::int64_t>() > 100000)
    throw UsageError("scheduler: " + path.string() + ": vision_config." + key,
                     "found " + value.dump() + ", expected a positive whole number");
}

// What model/clip/config.cpp reads, defaults included; what is no activation is refused there.
std::optional<ClipActivation> activation_of(const Json& config) {
  const auto tower = [&](const char* section) {
    const Json part = config.value(section, Json::object());
    return part.is_object() ? part.value("hidden_act", Json("quick_gelu")) : Json();
  };
  for (const ClipActivation activation : {ClipActivation::gelu, ClipActivation::quick_gelu})
    if (tower("vision_config") == to_json(activation) && tower("text_config") == to_json(activation)) return activation;
  return std::nullopt;
}

ClipSizes sizes_of(const Json& config) {
  ClipSizes sizes;
  const auto read = [&](const char* section, const char* key, int& size) {
    const Json part = *section == '\0' ? config : config.value(section, Json::object());
    if (const Json value = part.value(key, Json()); value.is_number_integer() && value > 0 && value < 1'000'000)
      size = value.get<int>();
  };
  if (!config.is_object()) return sizes;
  sizes.image_size = 224;  // transformers' default
  read("vision_config", "patch_size", sizes.patch);
  read("vision_config", "image_size", sizes.image_size);
  read("vision_config", "num_hidden_layers", sizes.layers);
  read("vision_config", "hidden_size", sizes.width);
  read("vision_config", "intermediate_size", sizes.mlp);
  read("text_config", "num_hidden_layers", sizes.text_layers);
  read("text_config", "hidden_size", sizes.text_width);
  read("", "projection_dim", sizes.projection);
  sizes.activation = activation_of(config);
  return sizes;
}

}  // namespace

DatasetInfo dataset_info(const Workspace& workspace, const std::string& name) {
  const fs::path path = workspace.dataset_file(name);
  std::error_code error;
  if (!is_plain_name(name) || !fs::exists(path, error))
    throw UsageError("scheduler: data set " + name,
                     "found none of this name in " + workspace.root().string() +
                         ", expected it to be added first: filo dataset add PATH --name " + name + " --workspace " +
                         workspace.root().string());
  const Json json = read_json(path);
  const auto refuse = [&](const std::string& problem) {
    throw UsageError("scheduler: " + path.string(),
                     problem + "; add the data set again: filo dataset add PATH --name " + name);
  };
  if (!json.is_object()) refuse("found no object, expected a data set's description");
  const Json digest = json.value("digest", Json());
  const Json classes = json.value("classes", Json());
  if (!digest.is_string() || digest.get<std::string>().size() < 16)
    refuse("digest: found " + digest.dump() + ", expected text");
  if (!classes.is_object() || classes.empty()) refuse("classes: found none, expected at least one class");
  DatasetInfo info{
      .name = name, .digest = digest, .classes = {}, .images = {}, .test_images = 0, .test_sizes = {}, .paths = {}};
  for (const auto& [class_name, counts] : classes.items()) {
    info.classes.push_back(class_name);
    info.images[class_name] = image_counts(counts);
    info.test_images += info.images[class_name].test;
  }
  const Json images = json.value("images", Json::array());
  info.paths.reserve(2 * images.size());
  for (const Json& image : images) {
    const Json sha256 = image.is_object() ? image.value("sha256", Json()) : Json();
    const Json image_path = image.is_object() ? image.value("path", Json()) : Json();
    if (!sha256.is_string() || !image_path.is_string())
      refuse("images: found " + printable(image.dump().substr(0, 80)) + ", expected an image's path and sha256");
    info.paths.emplace(sha256, image_path);
    const Json width = image.value("width", Json()), height = image.value("height", Json());
    if (text_of(image, "split") == "test" && width.is_number_integer() && height.is_number_integer())
      ++info.test_sizes[{width, height}];
    if (const std::string pixels = text_of(image, "pixels_sha256"); !pixels.empty())
      info.paths.emplace(pixels, image_path);
  }
  return info;
}

ClipSizes clip_sizes(const fs::path& folder) {
  try {
    return sizes_of(read_json(folder / "config.json"));
  } catch (const Error&) {
    return {};
  }
}

ClipInfo clip_info(const Workspace& workspace, const std::string& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  check_clip_folder(path);
  const Json config = read_json(path / "config.json");
  for (const char* key : {"patch_size", "num_hidden_layers"}) expect_positive(config, key, path / "config.json");
  return {.path = path.string(), .digest = remembered_clip_digest(workspace, path), .sizes = sizes_of(config)};
}

}  // namespace filo
