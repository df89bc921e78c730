// What the two programs' command lines share: parsing, help, --version, exit codes, errors as one line on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

namespace filo {

// What a subcommand returns; anything else than done is also how it tells EX_TEMPFAIL.
using Command = std::function<int()>;

// Adds a subcommand; `define` adds its options to the given CLI::App and returns what to run once they are parsed.
void add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                 const std::function<Command(CLI::App&)>& define);

// Adds a word that stands before subcommands: the `dataset` of `dataset add`. Alone it prints its help.
CLI::App& add_command_family(CLI::App& parent, const std::string& name, const std::string& summary);

// Checks of an option's value; each message says what was found and what was expected.
CLI::Validator one_of(const std::vector<std::string>& words);
CLI::Validator existing_file();
CLI::Validator whole_number(long long low, unsigned long long high = std::numeric_limits<unsigned long long>::max());
CLI::Validator real_number(double low, double high);

// An option whose value is a number from `low` to `high`; what `value` holds is the default.
template <typename Number>
CLI::Option* add_number(CLI::App& command, const std::string& name, Number& value, const std::string& what, Number low,
                        Number high = std::numeric_limits<Number>::max()) {
  CLI::Option* option = command.add_option(name, value, what)->capture_default_str();
  if constexpr (std::is_floating_point_v<Number>)
    return option->check(real_number(low, high));
  else
    return option->check(whole_number(static_cast<long long>(low), static_cast<unsigned long long>(high)));
}

// An option whose value is one of a few words; what `value` holds is the default.
template <typename Value>
CLI::Option* add_choice(CLI::App& command, const std::string& name, Value& value,
                        const std::map<std::string, Value>& choices, const std::string& what) {
  std::vector<std::string> words;
  for (const auto& choice : choices) words.push_back(choice.first);
  return command
      .add_option_function<std::string>(
          name, [&value, choices](const std::string& word) { value = choices.at(word); }, what)
      ->check(one_of(words));
}

// Parses, runs the chosen command, prints errors, returns the exit code (0 done, 1 failed, 2 usage, 75 stopped early).
// Without a command: prints the help to stderr, and the exit code is 2. `help COMMAND` is `COMMAND --help`.
int run_program(CLI::App& program, int argc, char** argv);

}  // namespace filo
