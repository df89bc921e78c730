// bench step, bench scaling, bench tower, bench kernels, bench metrics, bench cache: how long one training step, the
// image tower, the convolutions, a class's metrics and reading a feature cache take on this machine.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "app/worker/commands.hpp"
#include "base/error.hpp"
#include "base/installed.hpp"
#include "base/log.hpp"
#include "base/process.hpp"
#include "model/clip/clip.hpp"
#include "settings/train_names.hpp"
#include "trainer/benchmarks.hpp"

namespace filo {
namespace {

// Made by whoever writes to it; gone when the measurement is.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_(std::filesystem::temp_directory_path() / ("filo-bench-" + std::to_string(getpid()))) {}
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

const std::map<std::string, Precision> precisions = {{"fp32", Precision::fp32}, {"bf16", Precision::bf16}};

const std::string default_vocabulary = ".deps/bpe/bpe_simple_vocab_16e6.txt.gz";

struct StepOptions {
  BenchStepOptions bench;
  std::string profile = "filo-release", model, vocabulary = default_vocabulary;
  bool json = false;
};

void print_step(const Json& result) {
  std::cout << result["profile"].get<std::string>() << ", class " << result["class"].get<std::string>() << ", "
            << result["prompts"] << " learnable prompts, batch " << result["batch"] << ", "
            << result["dtype"].get<std::string>() << ", " << result["threads"] << " threads, products by "
            << result["products"].get<std::string>() << "\n";
  for (const char* part : {"zero_gradients", "text_forward", "decoder_forward", "backward", "all_reduce",
                           "gradient_norm", "optimizer", "total"})
    std::printf("  %-16s %8.3f s per image\n", part, result["seconds_per_image"].value(part, 0.0));
  std::printf("  %-16s %8.2f GB\n", "peak memory", result["peak_rss_bytes"].get<double>() / 1e9);
}

// Random weights where the user named none. What is returned holds them, if any.
std::unique_ptr<TemporaryFolder> complete(std::string& model, const std::string& vocabulary) {
  if (!model.empty()) return nullptr;
  auto temporary = std::make_unique<TemporaryFolder>();
  model = temporary->path().string();
  log_info("writing random weights to " + model + " (--model takes existing ones)");
  write_random_clip(model, clip_config(ClipSize::large), 0, vocabulary);
  return temporary;
}

// Fills in what the user left out.
std::unique_ptr<TemporaryFolder> complete(StepOptions& options) {
  auto temporary = complete(options.model, options.vocabulary);
  options.bench.clip = options.model;
  if (options.bench.spec.empty())
    options.bench.spec = shipped_file("configs/models/" + options.profile + ".yaml").string();
  return temporary;
}

int run_step(StepOptions options) {
  const auto temporary = complete(options);
  const Json result = bench_step(options.bench);
  if (result["rank"] != 0) return 0;
  if (options.json) {
    std::cout << result.dump(2) << "\n";
  } else {
    print_step(result);
  }
  return 0;
}

struct ScalingOptions {
  StepOptions step;
  int ranks = 2;
  std::string mpirun = "mpirun";
};

// A step of the same batch on so many ranks, each a process of `bench step` with as many threads as asked for.
Json step_on_ranks(const ScalingOptions& options, int ranks) {
  const StepOptions& step = options.step;
  log_info("a step on " + std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks"));
  const CapturedOutput found = run_and_capture({options.mpirun,
                                                "--allow-run-as-root",  // as in a container
                                                "--oversubscribe",
                                                "-np",
                                                std::to_string(ranks),
                                                std::filesystem::read_symlink("/proc/self/exe"),
                                                "bench",
                                                "step",
                                                "--json",
                                                "--spec",
                                                step.bench.spec,
                                                "--class",
                                                step.bench.class_name,
                                                "--model",
                                                step.model,
                                                "--batch",
                                                std::to_string(step.bench.batch),
                                                "--steps",
                                                std::to_string(step.bench.steps),
                                                "--threads",
                                                std::to_string(step.bench.threads),
                                                "--dtype",
                                                precision_names.name(step.bench.precision),
                                                "--gradients",
                                                precision_names.name(step.bench.gradients)},
                                               24 * 3600.0);
  if (!found.result.ok())
    throw Error("bench scaling", "the step on " + std::to_string(ranks) + " ranks failed: see above");
  return Json::parse(found.output);
}

int run_scaling(ScalingOptions options) {
  const auto temporary = complete(options.step);
  Json runs = Json::array();
  for (const int ranks : {1, options.ranks}) {
    Json run = step_on_ranks(options, ranks);
    const Json& seconds = run["seconds_per_image"];
    const auto total = seconds["total"].get<double>();
    const auto share = [&](const char* part) { return seconds.value(part, 0.0) / total; };
    run["exposed_all_reduce"] = share("all_reduce");
    run["outside_model"] = share("zero_gradients") + share("gradient_norm");
    run["speed_up"] = runs.empty() ? 1.0 : runs[0]["seconds_per_image"]["total"].get<double>() / total;
    runs.push_back(std::move(run));
  }
  if (options.step.json) {
    std::cout << Json({{"runs", runs}}).dump(2) << "\n";
    return 0;
  }
  std::printf("ranks  seconds a step  speed-up  exposed all-reduce  zeroing and norm  peak memory a rank\n");
  for (const Json& run : runs)
    std::printf("%5d  %14.3f  %7.2fx  %17.1f%%  %15.1f%%  %15.2f GB\n", run["ranks"].get<int>(),
                run["seconds_per_image"]["total"].get<double>() * run["batch"].get<int>(),
                run["speed_up"].get<double>(), 100 * run["exposed_all_reduce"].get<double>(),
                100 * run["outside_model"].get<double>(), run["peak_rss_bytes"].get<double>() / 1e9);
  return 0;
}

void print_kernels(const Json& result) {
  std::printf("GEMM: %.0f GFLOP/s fp32, %.0f GFLOP/s bf16; %d threads, %s\n",
              result["gemm"]["fp32"].get<double>() / 1e9, result["gemm"]["bf16"].get<double>() / 1e9,
              result["threads"].get<int>(), result["instruction_set"].get<std::string>().c_str());
  std::printf("deformable kernels that this machine takes: %s\n", result["taken"].get<std::string>().c_str());
  std::printf("%-12s %-5s %-5s %-8s %-9s %10s %7s %8s\n", "", "shape", "dtype", "by", "pass", "seconds", "share",
              "of GEMM");
  for (const Json& entry : result["deformable"]) {
    std::printf("%-12s %-5s %-5s %-8s %-9s %10.4f %6.1f%% %7.1f%%\n", "deformable",
                entry["kernel"].get<std::string>().c_str(), entry["dtype"].get<std::string>().c_str(),
                entry["by"].get<std::string>().c_str(), entry["pass"].get<std::string>().c_str(),
                entry["seconds"].get<double>(), 100 * entry["share"].get<double>(),
                100 * entry["fraction_of_gemm"].get<double>());
  }
  for (const Json& entry : result["summed"]) {
    std::printf("%-12s %-5s %-5s %-8s %-9s %10.4f   (%.0f GFLOP/s of the plain convolutions it replaces)\n", "summed",
                "all", "fp32", "", entry["pass"].get<std::string>().c_str(), entry["seconds"].get<double>(),
                entry["direct_operations_per_second"].get<double>() / 1e9);
  }
  std::printf("summed: relative error of float32 %.1e\n", result["summed_relative_error"].get<double>());
}

void add_model_options(CLI::App& command, std::string& model, std::string& vocabulary) {
  command.add_option("--model", model, "Hugging Face folder; without it random weights of ViT-L/14@336");
  command.add_option("--vocabulary", vocabulary, "CLIP's BPE vocabulary, for random weights")->capture_default_str();
}

void add_step_options(CLI::App& command, StepOptions& options) {
  command.add_option("--profile", options.profile, "Settings of configs/models/PROFILE.yaml")
      ->check(one_of({"paper", "filo-release"}))
      ->capture_default_str();
  command.add_option("--spec", options.bench.spec, "Another model's YAML file, in place of --profile");
  command.add_option("--class", options.bench.class_name, "Class whose prompts are encoded")->required();
  add_number(command, "--batch", options.bench.batch, "Images a step, over all ranks", 1, 1024);
  add_number(command, "--steps", options.bench.steps, "Steps timed, after one that is not; the best counts", 1, 1000);
  add_choice<Precision>(command, "--dtype", options.bench.precision, precisions,
                        "fp32 or bf16: of the large matrix products");
  add_choice<Precision>(command, "--gradients", options.bench.gradients, precisions,
                        "fp32 or bf16: of the gradients on their way between ranks");
  add_number(command, "--threads", options.bench.threads, "Of each rank; 0: all cores", 0, 1024);
  add_model_options(command, options.model, options.vocabulary);
  command.add_flag("--json", options.json, "Print JSON");
}

void define_step(CLI::App& bench) {
  add_command(bench, "step",
              "One training step from cached features, seconds per image by part; under mpirun on all ranks",
              [](CLI::App& command) -> Command {
                const auto options = std::make_shared<StepOptions>();
                add_step_options(command, *options);
                return [options] { return run_step(*options); };
              });
}

void define_scaling(CLI::App& bench) {
  add_command(bench, "scaling",
              "The same step on one rank and on several: speed-up, and how much of the all-reduce shows",
              [](CLI::App& command) -> Command {
                const auto options = std::make_shared<ScalingOptions>();
                options->step.bench.threads = 1;
                add_step_options(command, options->step);
                add_number(command, "--ranks", options->ranks, "How many; compared with one", 2, 1024);
                command.add_option("--mpirun", options->mpirun, "The launcher")->capture_default_str();
                return [options] { return run_scaling(*options); };
              });
}

struct TowerOptions {
  BenchTowerOptions bench;
  std::string model, vocabulary = default_vocabulary;
  bool json = false;
};

int run_tower(TowerOptions options) {
  const auto temporary = complete(options.model, options.vocabulary);
  options.bench.clip = options.model;
  const Json result = bench_tower(options.bench);
  if (options.json) {
    std::cout << result.dump(2) << "\n";
    return 0;
  }
  std::printf("%d x %d pixels, %d at once, %d threads, products by %s\n", result["image_size"].get<int>(),
              result["image_size"].get<int>(), result["batch"].get<int>(), result["threads"].get<int>(),
              result["products"].get<std::string>().c_str());
  std::printf("%-9s %10s %7s %20s %18s\n", "", "s an image", "ratio", "product, GFLOP/s", "largest difference");
  for (const auto& [name, seconds] : result["seconds_per_image"].items())
    std::printf("%-9s %10.3f %6.2fx %20.0f %18.1e\n", name.c_str(), seconds.get<double>(),
                result["ratio"].value(name, 1.0), result["operations_per_second"][name].get<double>() / 1e9,
                result["largest_difference"].value(name, 0.0));
  return 0;
}

void define_tower(CLI::App& bench) {
  add_command(bench, "tower", "The image tower as the features stage runs it, beside LibTorch's default",
              [](CLI::App& command) -> Command {
                const auto options = std::make_shared<TowerOptions>();
                add_number(command, "--image-size", options->bench.image_size, "Pixels per side", 1, 4096);
                add_number(command, "--batch", options->bench.batch, "Images at once", 1, 1024);
                add_number(command, "--steps", options->bench.steps, "Passes timed; the best counts", 1, 1000);
                add_number(command, "--threads", options->bench.threads, "0: all cores", 0, 1024);
                add_model_options(command, options->model, options->vocabulary);
                command.add_flag("--json", options->json, "Print JSON");
                return [options] { return run_tower(*options); };
              });
}

void define_kernels(CLI::App& bench) {
  add_command(bench, "kernels", "The MDCI convolutions alone, beside the machine's matrix product",
              [](CLI::App& command) -> Command {
                const auto options = std::make_shared<BenchKernelsOptions>();
                const auto json = std::make_shared<bool>(false);
                const auto size = [&](const char* name, int& value, const char* what) {
                  add_number(command, name, value, what, 1, 4096);
                };
                size("--batch", options->batch, "Images");
                size("--side", options->side, "Patches per side");
                size("--inputs", options->inputs, "Channels in");
                size("--outputs", options->outputs, "Channels out");
                add_number(command, "--threads", options->threads, "0: all cores", 0, 1024);
                command.add_flag("--json", *json, "Print JSON");
                return [options, json] {
                  const Json result = bench_kernels(*options);
                  if (*json) {
                    std::cout << result.dump(2) << "\n";
                  } else {
                    print_kernels(result);
                  }
                  return 0;
                };
              });
}

void print_metrics(const Json& result) {
  std::printf("%llu images of %d x %d, %d threads, %.0f MB at most, %.0f MB of them in a file\n",
              result["images"].get<unsigned long long>(), result["side"].get<int>(), result["side"].get<int>(),
              result["threads"].get<int>(), result["memory_limit_bytes"].get<double>() / 1e6,
              result["disk_bytes"].get<double>() / 1e6);
  const auto print = [&](const char* what, const std::string& with) {
    std::printf("  %-16s %8.3f s, %.3f s of the processor\n", what, result["seconds" + with].get<double>(),
                result["cpu_seconds" + with].get<double>());
  };
  print("exact", "");
  print("with intervals", "_with_intervals");
  std::printf("  %-16s %8.2f GB\n", "peak memory", result["peak_rss_bytes"].get<double>() / 1e9);
}

void define_metrics(CLI::App& bench) {
  add_command(
      bench, "metrics", "The pixels' metrics of one class, and their intervals", [](CLI::App& command) -> Command {
        const auto options = std::make_shared<BenchMetricsOptions>();
        const auto json = std::make_shared<bool>(false);
        const auto megabytes = std::make_shared<int>(512);
        const auto save = std::make_shared<std::string>();
        add_number(command, "--images", options->images, "Images of the class", std::size_t{1}, std::size_t{1000000});
        add_number(command, "--side", options->side, "Pixels per side", 1, 4096);
        add_number(command, "--threads", options->threads, "Threads", 1, 1024);
        add_number(command, "--memory", *megabytes, "MiB a class may take", 1, 1000000);
        command.add_option("--save", *save, "Folder that gets the maps, as maps.f32 and masks.u8");
        command.add_flag("--json", *json, "Print JSON");
        return [options, json, megabytes, save] {
          options->memory_bytes = static_cast<std::size_t>(*megabytes) << 20;
          options->folder = std::filesystem::temp_directory_path();
          options->save = *save;
          const Json result = bench_metrics(*options);
          if (*json) {
            std::cout << result.dump(2) << "\n";
          } else {
            print_metrics(result);
          }
          return 0;
        };
      });
}

void print_cache(const Json& result) {
  const auto rate = [](const Json& part, const char* name) { return part[name].get<double>() / 1e9; };
  const Json &warm = result["warm"], &cold = result["cold"];
  std::printf("%llu samples of %.1f MB, batches of %d, %d threads; memory for reading %.0f MB\n",
              result["samples"].get<unsigned long long>(), result["sample_bytes"].get<double>() / 1e6,
              result["batch"].get<int>(), result["threads"].get<int>(), result["memory_bytes"].get<double>() / 1e6);
  std::printf("  warm, random order: %.2f GB/s, %.2f of pread's %.2f GB/s; when checksums are looked at %.2f GB/s\n",
              rate(warm, "reader_bytes_per_s"), warm["of_pread"].get<double>(), rate(warm, "pread_bytes_per_s"),
              rate(warm, "first_touch_bytes_per_s"));
  std::printf("  cold, random order: %.2f GB/s, %.2f of a sequential read's %.2f GB/s\n",
              rate(cold, "reader_bytes_per_s"), cold["of_sequential"].get<double>(),
              rate(cold, "sequential_bytes_per_s"));
}

void define_cache(CLI::App& bench) {
  add_command(bench, "cache", "Reading a feature cache, beside pread", [](CLI::App& command) -> Command {
    const auto options = std::make_shared<BenchCacheOptions>();
    const auto json = std::make_shared<bool>(false);
    const auto keep = std::make_shared<std::string>();
    add_number(command, "--samples", options->samples, "Samples of the cache", std::size_t{1}, std::size_t{1000000});
    add_number(command, "--side", options->side, "Patches per side: 37 makes samples of 19 MB", 1, 128);
    add_number(command, "--batch", options->batch, "Samples read at once", 1, 1024);
    add_number(command, "--threads", options->threads, "Threads that read", 1, 1024);
    add_number(command, "--rounds", options->rounds, "The best of so many counts", 1, 1000);
    command.add_option("--keep", *keep, "Empty folder that gets the cache, and keeps it");
    command.add_flag("--json", *json, "Print JSON");
    return [options, json, keep] {
      const TemporaryFolder temporary;
      options->folder = keep->empty() ? temporary.path() / "cache" : std::filesystem::path(*keep);
      const Json result = bench_cache(*options);
      if (*json) {
        std::cout << result.dump(2) << "\n";
      } else {
        print_cache(result);
      }
      return 0;
    };
  });
}

}  // namespace

void add_bench_command(CLI::App& program) {
  CLI::App& bench = add_command_family(
      program, "bench", "Measure a training step, the image tower, kernels, a class's metrics, or reading a cache");
  define_step(bench);
  define_scaling(bench);
  define_tower(bench);
  define_kernels(bench);
  define_metrics(bench);
  define_cache(bench);
}

}  // namespace filo
