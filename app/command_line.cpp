#include "app/command_line.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <optional>

#include "app/version.hpp"
#include "base/error.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"

namespace filo {
namespace {

using Words = std::vector<std::string>;

Command& chosen_command() {
  static Command command;
  return command;
}

std::string in_quotes(std::string_view word) { return "\"" + printable(word) + "\""; }

std::string listed(const Words& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// What the words name so far, outermost first: program, family, command.
std::vector<const CLI::App*> named(const CLI::App& program) {
  std::vector<const CLI::App*> path = {&program};
  while (!path.back()->get_subcommands().empty()) path.push_back(path.back()->get_subcommands().front());
  return path;
}

// "filo dataset add".
std::string spelled(const std::vector<const CLI::App*>& path) {
  std::string text;
  for (const CLI::App* part : path) text += (text.empty() ? "" : " ") + part->get_name();
  return text;
}

Words option_names(const CLI::App& command) {
  Words names;
  for (const CLI::Option* option : command.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

bool takes_option(const CLI::App& command, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  for (const CLI::Option* option : command.get_options())
    if (option->check_name(name)) return true;
  return false;
}

std::string unknown_option(const std::string& word, const std::vector<const CLI::App*>& path) {
  const std::string name = word.substr(0, word.find('='));
  std::string message = "unknown option " + in_quotes(name);
  if (takes_option(*path.back(), name))
    return message + " before the command; it goes behind it: " + spelled(path) + " " + name;
  return message + did_you_mean(name, option_names(*path.back()));
}

std::string unknown_command(const std::string& word, const CLI::App& parent) {
  Words known;
  for (const CLI::App* command : parent.get_subcommands({})) known.push_back(command->get_name());
  std::string near = did_you_mean(word, known);
  if (near.empty())  // `filo show`: a command of one of the families
    for (const CLI::App* family : parent.get_subcommands({}))
      for (const CLI::App* command : family->get_subcommands({}))
        if (command->get_name() == word) near = "; did you mean " + family->get_name() + " " + word + "?";
  return "unknown command " + in_quotes(word) + (near.empty() ? did_you_mean(word, option_names(parent)) : near);
}

std::string unexpected_argument(const std::string& word, const CLI::App& command) {
  Words takes;
  for (const CLI::Option* option : command.get_options())
    if (option->get_positional()) takes.push_back(option->get_name());
  return "unexpected argument " + in_quotes(word) + ", expected " +
         (takes.empty() ? "options only" : "no more than " + listed(takes));
}

// About a word that nothing takes; unset when each was taken.
std::optional<std::string> about_extra_words(const std::vector<const CLI::App*>& path) {
  for (const CLI::App* part : path) {
    const Words extra = part->remaining();
    if (extra.empty()) continue;
    for (const auto& word : extra)
      if (word.starts_with('-') && word != "-" && word != "--") return unknown_option(word, path);
    if (part->get_subcommands({}).empty()) return unexpected_argument(extra.front(), *part);
    return unknown_command(extra.front(), *part);
  }
  return std::nullopt;
}

// CLI11 takes the word behind an option for its value, whatever it is: `--workspace --json`, `--workspace "$UNSET"`.
std::optional<std::string> about_swallowed_words(const CLI::App& command, const Words& words) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_items_expected_max() == 0) continue;
    for (const auto& value : option->results()) {
      if (value.empty())
        return option->get_name() + ": found \"\", expected a value (" + first_line(option->get_description()) + ")";
      if (option->get_positional()) continue;
      const bool option_like = value.starts_with("--") || (value.starts_with('-') && takes_option(command, value));
      if (option_like && std::find(words.begin(), words.end(), value) != words.end())
        return option->get_name() + ": found the option " + in_quotes(value) + ", expected a value (" +
               option->get_name() + "=" + printable(value) + " if it is one)";
    }
  }
  return std::nullopt;
}

std::optional<std::string> about_missing_options(const CLI::App& command) {
  Words missing;
  std::string description;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_required() || option->count() > 0) continue;
    missing.push_back(option->get_name());
    description = first_line(option->get_description());
  }
  if (missing.empty()) return std::nullopt;
  return "missing " + listed(missing) + (missing.size() == 1 ? " (" + description + ")" : "");
}

// About the option that CLI11's message begins with, where CLI11 does not say it in our words.
std::string about_value(const CLI::ParseError& error, const CLI::App& command) {
  std::string text = error.what();
  for (const CLI::Option* option : command.get_options()) {
    const std::string& name = option->get_name();
    if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr && text.starts_with(name + ":")) {
      if (option->count() > 1) return name + ": found " + std::to_string(option->count()) + " values, expected one";
      return name + ": found no value, expected one (" + first_line(option->get_description()) + ")";
    }
    if (text.starts_with("Could not convert: " + name + " =")) return name + ": found a value, expected none";
  }
  return text;
}

std::string message_of(const CLI::ParseError& error, const CLI::App& program, const Words& words) {
  const auto path = named(program);
  if (const auto message = about_extra_words(path)) return *message;
  if (const auto message = about_swallowed_words(*path.back(), words)) return *message;
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr)
    if (const auto message = about_missing_options(*path.back())) return *message;
  return about_value(error, *path.back());
}

// Paths and names end up in JSON files, which hold UTF-8.
void check_utf8(const Words& words) {
  constexpr const char* problem = ", which is not valid UTF-8, expected text that is (rename the file)";
  for (std::size_t i = 0; i < words.size(); ++i)
    if (!is_utf8(words[i]))
      throw UsageError("argument " + std::to_string(i + 1), "found " + in_quotes(words[i]) + problem);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (text.starts_with("FILO_") && !is_utf8(text))
      throw UsageError("environment variable " + printable(text.substr(0, text.find('='))),
                       "found " + in_quotes(text.substr(std::min(text.size(), text.find('=') + 1))) + problem);
  }
}

// The exit code where no command is to be run: after --help and --version, or when the words are wrong.
std::optional<int> parse(CLI::App& program, Words words) {
  const auto fail = [&](const std::string& message) {
    std::cerr << program.get_name() << ": " << message << " (see `" << spelled(named(program)) << " --help`)\n";
    return static_cast<int>(ExitCode::usage);
  };
  if (!words.empty() && words[0] == "help") {
    words.erase(words.begin());
    words.emplace_back("--help");
  }
  check_utf8(words);
  try {
    program.parse(Words(words.rbegin(), words.rend()));  // CLI11 takes them from the end
  } catch (const CLI::Success& request) {                // --help, --version
    return program.exit(request);
  } catch (const CLI::ParseError& error) {
    const auto path = named(program);
    const CLI::App& last = *path.back();
    if (!last.get_subcommands({}).empty() && !about_extra_words(path)) {
      std::cerr << program.help();
      return static_cast<int>(ExitCode::usage);
    }
    return fail(message_of(error, program, words));
  }
  if (const auto message = about_swallowed_words(*named(program).back(), words)) return fail(*message);
  return std::nullopt;
}

template <typename Number>
std::optional<Number> number_from(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string shown(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

}  // namespace

CLI::Validator one_of(const std::vector<std::string>& words) {
  return {[words](std::string& word) {
            if (std::find(words.begin(), words.end(), word) != words.end()) return std::string();
            return "found " + in_quotes(word) + ", expected one of " + listed(words);
          },
          "", ""};
}

CLI::Validator existing_file() {
  return {[](std::string& path) {
            std::error_code error;
            if (std::filesystem::is_regular_file(path, error)) return std::string();
            const bool folder = std::filesystem::is_directory(path, error);
            return "found " + std::string(folder ? "the folder " : "no such file: ") + in_quotes(path) +
                   ", expected a file";
          },
          "FILE", ""};
}

CLI::Validator whole_number(long long low, unsigned long long high) {
  std::string expected = "a whole number ";
  // What a type can hold is no limit that anybody needs to hear of.
  const bool open = high >= static_cast<unsigned long long>(std::numeric_limits<int>::max());
  expected +=
      open ? "of at least " + std::to_string(low) : "from " + std::to_string(low) + " to " + std::to_string(high);
  return {[low, high, expected](std::string& word) {
            bool good = false;
            if (const auto number = number_from<long long>(word))
              good = *number >= low && (*number < 0 || static_cast<unsigned long long>(*number) <= high);
            else if (const auto large = number_from<unsigned long long>(word))
              good = *large <= high;
            return good ? std::string() : "found " + in_quotes(word) + ", expected " + expected;
          },
          open ? "" : std::to_string(low) + "-" + std::to_string(high), ""};
}

CLI::Validator real_number(double low, double high) {
  const bool open = high == std::numeric_limits<double>::max();
  const std::string expected =
      open ? "a number of at least " + shown(low) : "a number from " + shown(low) + " to " + shown(high);
  return {[low, high, expected](std::string& word) {
            const auto number = number_from<double>(word);
            return number && *number >= low && *number <= high ? std::string()
                                                               : "found " + in_quotes(word) + ", expected " + expected;
          },
          open ? "" : shown(low) + "-" + shown(high), ""};
}

void add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                 const std::function<Command(CLI::App&)>& define) {
  CLI::App* command = parent.add_subcommand(name, summary);
  command->callback([run = define(*command)] { chosen_command() = run; });
}

CLI::App& add_command_family(CLI::App& parent, const std::string& name, const std::string& summary) {
  CLI::App* family = parent.add_subcommand(name, summary);
  family->require_subcommand(1);
  return *family;
}

int run_program(CLI::App& program, int argc, char** argv) {
  program.set_version_flag("--version", std::string(program.get_name()) + " " FILO_VERSION);
  program.require_subcommand(1);
  try {
    if (const auto exit_code = parse(program, Words(argv + 1, argv + argc))) return *exit_code;
    return chosen_command()();
  } catch (const Error& error) {
    std::cerr << program.get_name() << ": " << error.what() << "\n";
    return static_cast<int>(error.exit_code());
  } catch (const std::filesystem::filesystem_error& error) {
    std::cerr << program.get_name() << ": " << printable(error.path1().string()) << ": " << error.code().message()
              << "\n";
    return static_cast<int>(ExitCode::failed);
  } catch (const std::exception& error) {
    std::cerr << program.get_name() << ": unexpected: " << error.what() << "\n";
    return static_cast<int>(ExitCode::failed);
  }
}

}  // namespace filo
