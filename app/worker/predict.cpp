#include <cstdio>
#include <iostream>
#include <memory>

#include "app/worker/commands.hpp"
#include "cluster/session.hpp"
#include "trainer/predict.hpp"

namespace filo {

void add_predict_command(CLI::App& program) {
  add_command(
      program, "predict", "Score images with a checkpoint: anomaly map, score, and which anomaly it is",
      [](CLI::App& command) -> Command {
        auto options = std::make_shared<PredictOptions>();
        auto json = std::make_shared<bool>(false);
        command
            .add_option("--checkpoint", options->checkpoint, "a training's checkpoint/ folder, or an export's bundle/")
            ->required();
        command.add_option("--class", options->class_name, "the product's class in the descriptions file")->required();
        command.add_option("--image", options->images, "images to score")->required()->check(existing_file());
        command.add_option("--normal", options->normal_images, "normal images of the class: few-shot")
            ->check(existing_file());
        command.add_option("--descriptions", options->descriptions,
                           "a descriptions file that knows the class (default: the checkpoint's own)");
        command.add_option("--clip", options->clip,
                           "the CLIP folder, where it is neither in the bundle nor at the checkpoint's path");
        command
            .add_option(
                "--boxes", options->boxes,
                "JSON, IMAGE (as given here): [{\"box\": [x0, y0, x1, y1], \"score\": s}], corners relative to the\n"
                "image: pick the positions in prompts, and what lies outside is suppressed")
            ->check(existing_file());
        command.add_option("--out", options->out, "folder for heat maps (PNG) and maps (safetensors)");
        command.add_option_function<std::string>(
            "--grey16", [options](const std::string& text) { options->grey16 = grey16_range_from(text); },
            "LOW:HIGH, the samples of 16-bit grey images that become black and white, as the data set was added with");
        add_number(command, "--threads", options->threads, "threads", 1);
        command.add_flag("--json", *json, "print the results as JSON");
        return [options, json] {
          MpiSession session;
          const Json results = predict(*options);
          if (*json) {
            std::cout << results.dump(2) << "\n";
            return 0;
          }
          for (const Json& result : results) {
            std::printf("%s: score %.4f\n", result["image"].get<std::string>().c_str(), result["score"].get<double>());
            for (const Json& match : result["descriptions"]) {
              const std::string position = match["position"];
              std::printf("  %.4f  %s%s%s\n", match["similarity"].get<double>(),
                          match["description"].get<std::string>().c_str(), position.empty() ? "" : " at ",
                          position.c_str());
            }
            if (result.contains("heat_map"))
              std::printf("  heat map: %s\n", result["heat_map"].get<std::string>().c_str());
          }
          return 0;
        };
      });
}

}  // namespace filo
