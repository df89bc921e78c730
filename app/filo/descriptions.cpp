#include "settings/descriptions.hpp"

#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "base/files.hpp"
#include "settings/published_descriptions.hpp"

namespace filo {
namespace {

Command define_import(CLI::App& command) {
  struct Options {
    std::string file, out;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("FILE", options->file, "models/FiLo.py of your copy of FiLo's code; only its literals are read")
      ->required()
      ->check(existing_file());
  command.add_option("--out", options->out, "Descriptions file (YAML) to write")->required();
  command.add_flag("--json", options->json, "Print what it held as JSON");
  return [options] {
    const Descriptions descriptions = import_published_descriptions(options->file);
    descriptions_from_json(to_json(descriptions), options->file);  // what a descriptions file may hold
    write_file_atomically(options->out, to_yaml(descriptions));
    if (options->json) {
      std::cout << to_json(descriptions).dump(2) << "\n";
      return 0;
    }
    for (const auto& [name, entry] : descriptions.classes)
      std::cout << name << ": " << entry.descriptions.size() << " descriptions, called " << entry.prompt_name << "\n";
    std::cout << descriptions.classes.size() << " classes written to " << options->out << "\n";
    return 0;
  };
}

}  // namespace

void add_descriptions_command(CLI::App& program) {
  CLI::App& descriptions = add_command_family(program, "descriptions", "Makes descriptions files");
  add_command(descriptions, "import", "Writes the descriptions that FiLo's published code holds", define_import);
}

}  // namespace filo
