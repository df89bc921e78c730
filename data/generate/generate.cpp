#include "data/generate/generate.hpp"

#include <fcntl.h>

#include <algorithm>
#include <map>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/random.hpp"
#include "data/generate/products.hpp"

namespace filo {

namespace fs = std::filesystem;

namespace {

constexpr const char* options_file = "generated.json";

const std::map<std::string, std::vector<std::string>>& families() {
  static const std::map<std::string, std::vector<std::string>> classes = {
      {"parts", {"washer", "gear", "bracket", "dial"}}, {"boards", {"relay_board", "keypad", "display", "chip_tray"}}};
  return classes;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// Uneven light, exposure, colour temperature, sensor noise: what happens between product and file.
Image photograph(drawing::Canvas* canvas, Random& random) {
  const int size = canvas->size();
  const float direction = drawing::uniform(random, 0, 6.283f), gradient = drawing::uniform(random, 0.05f, 0.22f);
  const drawing::Point light = drawing::at_angle(direction, gradient);
  const float vignette = drawing::uniform(random, 0.05f, 0.16f), exposure = drawing::uniform(random, 0.84f, 1.14f);
  const float warmth = drawing::uniform(random, -0.04f, 0.04f), grain = drawing::uniform(random, 0.008f, 0.022f);
  Image image(size, size, 3);
  Random sensor(random.next());
  const auto noise = [&] {  // three uniforms: close enough to a Gaussian, and cheap
    const std::uint64_t bits = sensor.next();
    const auto part = [bits](int shift) {
      return static_cast<float>((bits >> shift) & 0x1fffff) * (2.0f / 0x1fffff) - 1;
    };
    return part(0) + part(21) + part(42);
  };
  for (int y = 0; y < size; ++y)
    for (int x = 0; x < size; ++x) {
      const drawing::Point p = {2 * (static_cast<float>(x) + 0.5f) / static_cast<float>(size) - 1,
                                2 * (static_cast<float>(y) + 0.5f) / static_cast<float>(size) - 1};
      const float gain = exposure * (1 + drawing::dot(p, light)) * (1 - vignette * drawing::dot(p, p));
      const std::size_t i = static_cast<std::size_t>(y) * static_cast<std::size_t>(size) + static_cast<std::size_t>(x);
      const drawing::Rgb color = canvas->colors()[i] * gain;
      const float brightness_noise = grain * noise();
      const float channels[3] = {color.r * (1 + warmth), color.g, color.b * (1 - warmth)};
      for (std::size_t channel = 0; channel < 3; ++channel) {
        const float value = channels[channel] + brightness_noise + 0.3f * grain * noise();
        image.pixels[3 * i + channel] = static_cast<std::uint8_t>(std::clamp(value * 255 + 0.5f, 0.0f, 255.0f));
      }
    }
  return image;
}

drawing::Camera place_camera(Random& random) {
  drawing::Camera camera;
  camera.angle = drawing::uniform(random, -0.16f, 0.16f);
  camera.scale = drawing::uniform(random, 0.90f, 1.02f);
  camera.shift = {drawing::uniform(random, -0.06f, 0.06f), drawing::uniform(random, -0.06f, 0.06f)};
  return camera;
}

}  // namespace

const std::vector<std::string>& generated_families() {
  static const std::vector<std::string> names = {"parts", "boards"};
  return names;
}

const std::vector<std::string>& generated_classes(const std::string& family) {
  const auto found = families().find(family);
  if (found == families().end())
    throw UsageError("generate: family", "is '" + family + "', expected " + joined(generated_families()));
  return found->second;
}

const std::vector<std::string>& generated_defects() {
  static const std::vector<std::string> names = {"scratch", "spot", "stain", "dent", "crack", "missing", "misplaced"};
  return names;
}

GeneratedImage generate_image(const std::string& class_name, const std::string& defect, std::uint64_t seed,
                              std::uint64_t index, int size) {
  if (!contains(generated_classes("parts"), class_name) && !contains(generated_classes("boards"), class_name))
    throw UsageError("generate: class", "is '" + class_name + "', expected one of " +
                                            joined(generated_classes("parts")) + ", " +
                                            joined(generated_classes("boards")));
  if (defect != "good" && !contains(generated_defects(), defect))
    throw UsageError("generate: defect", "is '" + defect + "', expected good, " + joined(generated_defects()));
  if (size < 32 || size > 4096)
    throw UsageError("generate: size", "is " + std::to_string(size) + ", expected 32 to 4096 pixels");
  Random random(seed, class_name + "/" + defect, index);
  drawing::Canvas canvas(size, place_camera(random));
  drawing::Product product = drawing::make_product(class_name, random);
  const auto changes = drawing::change_product(&product, defect, random);
  drawing::draw_product(&canvas, product);
  drawing::draw_changes(&canvas, changes, random);
  drawing::draw_defect(&canvas, product, defect, random);
  drawing::draw_clutter(&canvas, product, random);
  GeneratedImage result;
  result.image = photograph(&canvas, random);
  result.mask = Image(size, size, 1);
  for (std::size_t i = 0; i < canvas.mask().size(); ++i) result.mask.pixels[i] = canvas.mask()[i] >= 0.5f ? 255 : 0;
  return result;
}

namespace {

// One image to draw: where it goes below the data set's folder.
struct Job {
  std::string class_name;
  std::string defect;
  std::uint64_t index = 0;
  std::string image;
  std::string mask;  // "" for good ones
  std::string split;
};

std::string numbered(std::uint64_t number, int digits) {
  const std::string text = std::to_string(number);
  return std::string(static_cast<std::size_t>(std::max(0, digits - static_cast<int>(text.size()))), '0') + text;
}

std::string kind_of(int i) { return generated_defects()[static_cast<std::size_t>(i) % generated_defects().size()]; }

std::vector<Job> mvtec_jobs(const std::string& class_name, const GenerateOptions& options) {
  std::vector<Job> jobs;
  for (int i = 0; i < options.train; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    jobs.push_back({class_name, "good", index, class_name + "/train/good/" + numbered(index, 3) + ".png", "", "train"});
  }
  for (int i = 0; i < options.good; ++i) {  // numbered on, so that no test image is a train image
    const auto index = static_cast<std::uint64_t>(i);
    jobs.push_back({class_name, "good", index + static_cast<std::uint64_t>(options.train),
                    class_name + "/test/good/" + numbered(index, 3) + ".png", "", "test"});
  }
  for (int i = 0; i < options.defective; ++i) {
    const auto index = static_cast<std::uint64_t>(i) / generated_defects().size();
    const std::string name = kind_of(i) + "/" + numbered(index, 3);
    jobs.push_back({class_name, kind_of(i), index, class_name + "/test/" + name + ".png",
                    class_name + "/ground_truth/" + name + "_mask.png", "test"});
  }
  return jobs;
}

std::vector<Job> visa_jobs(const std::string& class_name, const GenerateOptions& options) {
  std::vector<Job> jobs;
  for (int i = 0; i < options.train + options.good; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    jobs.push_back({class_name, "good", index, class_name + "/Data/Images/Normal/" + numbered(index, 4) + ".png", "",
                    i < options.train ? "train" : "test"});
  }
  for (int i = 0; i < options.defective; ++i) {
    const std::string name = numbered(static_cast<std::uint64_t>(i), 3) + ".png";
    jobs.push_back({class_name, kind_of(i), static_cast<std::uint64_t>(i) / generated_defects().size(),
                    class_name + "/Data/Images/Anomaly/" + name, class_name + "/Data/Masks/Anomaly/" + name, "test"});
  }
  return jobs;
}

void check(const GenerateOptions& options) {
  const auto& classes = generated_classes(options.family);
  for (const std::string& name : options.classes)
    if (!contains(classes, name))
      throw UsageError("generate: classes", "'" + name + "' is not one of " + options.family + ": " + joined(classes));
  if (options.size < 32 || options.size > 4096)
    throw UsageError("generate: size", "is " + std::to_string(options.size) + ", expected 32 to 4096 pixels");
  for (const auto& [name, value] :
       {std::pair("train", options.train), {"good", options.good}, {"defective", options.defective}})
    if (value < 0 || value > 100000)
      throw UsageError(std::string("generate: ") + name, "is " + std::to_string(value) + ", expected 0 to 100000");
  if (options.good + options.defective == 0)
    throw UsageError("generate: good, defective", "are both 0, expected at least one test image a class");
  if (options.out.empty()) throw UsageError("generate: out", "is empty, expected a folder");
}

Json describe(const GenerateOptions& options, const std::vector<std::string>& classes) {
  return {{"format", 1},          {"family", options.family}, {"classes", classes},   {"seed", options.seed},
          {"size", options.size}, {"train", options.train},   {"good", options.good}, {"defective", options.defective}};
}

// True when the folder holds what these options make; throws when it holds anything else.
bool made_before(const fs::path& out, const Json& description) {
  if (!fs::exists(out) || (fs::is_directory(out) && fs::is_empty(out))) return false;
  if (fs::is_regular_file(out / options_file)) {
    if (read_json(out / options_file) == description) return true;
    throw UsageError("generate: " + out.string(), "was generated with other options (see " + std::string(options_file) +
                                                      " there): choose another folder or remove it");
  }
  throw UsageError("generate: " + out.string(), "is there already and was not generated: choose another folder");
}

void write_listing(const fs::path& root, const std::vector<Job>& jobs) {
  std::string csv = "object,split,label,image,mask\n";
  for (const Job& job : jobs)
    csv += job.class_name + "," + job.split + "," + (job.mask.empty() ? "normal" : "anomaly") + "," + job.image + "," +
           job.mask + "\n";
  fs::create_directories(root / "split_csv");
  write_file_atomically(root / "split_csv" / "1cls.csv", csv);
}

// Plain writes: the folder as a whole is what appears atomically.
void write_file(const fs::path& path, const std::string& bytes) {
  const FileDescriptor file = open_file(path, O_WRONLY | O_CREAT | O_EXCL);
  write_all(file.get(), bytes, path);
}

}  // namespace

GenerateResult generate_dataset(const GenerateOptions& options, const Progress& progress) {
  check(options);
  GenerateResult result;
  result.classes = options.classes.empty() ? generated_classes(options.family) : options.classes;
  std::sort(result.classes.begin(), result.classes.end());
  result.classes.erase(std::unique(result.classes.begin(), result.classes.end()), result.classes.end());
  const bool mvtec = options.family == "parts";
  std::vector<Job> jobs;
  for (const std::string& name : result.classes)
    for (Job& job : mvtec ? mvtec_jobs(name, options) : visa_jobs(name, options)) jobs.push_back(std::move(job));
  result.images = jobs.size();
  const fs::path out = fs::absolute(options.out).lexically_normal();
  const fs::path target = out.has_filename() ? out : out.parent_path();
  const Json description = describe(options, result.classes);
  result.existed = made_before(target, description);
  if (result.existed) return result;

  AtomicFolder folder(target);
  for (const Job& job : jobs) {
    fs::create_directories((folder.path() / job.image).parent_path());
    if (!job.mask.empty()) fs::create_directories((folder.path() / job.mask).parent_path());
  }
  parallel_for(
      jobs.size(), 0,
      [&](std::size_t i) {
        const Job& job = jobs[i];
        const GeneratedImage drawn = generate_image(job.class_name, job.defect, options.seed, job.index, options.size);
        write_file(folder.path() / job.image, encode_png(drawn.image));
        if (!job.mask.empty()) write_file(folder.path() / job.mask, encode_png(drawn.mask));
      },
      progress);
  if (!mvtec) write_listing(folder.path(), jobs);
  write_json(folder.path() / options_file, description);
  folder.commit();
  return result;
}

}  // namespace filo
