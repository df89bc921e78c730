#include <iostream>
#include <memory>

#include "app/worker/commands.hpp"
#include "model/clip/clip.hpp"

namespace filo {
namespace {

struct InitClipOptions {
  ClipSize size = ClipSize::tiny;
  std::uint64_t seed = 0;
  std::string out;
  std::string vocabulary = ".deps/bpe/bpe_simple_vocab_16e6.txt.gz";
};

int init_clip(const InitClipOptions& options) {
  write_random_clip(options.out, clip_config(options.size), options.seed, options.vocabulary);
  std::cout << options.out << "\n";
  return 0;
}

}  // namespace

void add_init_clip_command(CLI::App& program) {
  add_command(program, "init-clip", "Write a Hugging Face CLIP folder with random weights",
              [](CLI::App& command) -> Command {
                const auto options = std::make_shared<InitClipOptions>();
                add_choice<ClipSize>(command, "--size", options->size,
                                     {{"tiny", ClipSize::tiny}, {"base", ClipSize::base}, {"large", ClipSize::large}},
                                     "tiny (a demo's), base (as ViT-B/16) or large (as ViT-L/14@336)")
                    ->required();
                add_number(command, "--seed", options->seed, "Equal seeds give equal files", std::uint64_t{0});
                command.add_option("--out", options->out, "Folder to write")->required();
                command.add_option("--vocabulary", options->vocabulary, "CLIP's BPE vocabulary")->capture_default_str();
                return [options] { return init_clip(*options); };
              });
}

}  // namespace filo
