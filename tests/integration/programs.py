"""What both programs promise on the command line: help, version, exit codes, errors of one line."""

import json
import os
import re
import subprocess
import tempfile
import unittest

PROGRAMS = {"filo": os.environ["FILO"], "filo-worker": os.environ["FILO_WORKER"]}


def run(*arguments, **options):
    """The output as text, which it must be: a program that prints something else than UTF-8 fails here."""
    return subprocess.run(
        arguments, capture_output=True, encoding="utf-8", timeout=60, stdin=subprocess.DEVNULL, **options
    )


def subcommands(path, *words):
    """The names under "Subcommands:" of the help of `path words...`."""
    text = run(path, *words, "--help").stdout
    section = re.search(r"^(?:Subcommands|SUBCOMMANDS):\n((?:  .*\n?)+)", text, re.MULTILINE)
    return re.findall(r"^  (\S+)", section.group(1), re.MULTILINE) if section else []


def all_commands(path, *words):
    found = [words]
    for name in subcommands(path, *words):
        found += all_commands(path, *words, name)
    return found


class Programs(unittest.TestCase):
    def assert_one_line_error(self, result, code, *parts):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, f"not one line: {result.stderr!r}")
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_the_subcommands_of_the_design_are_there(self):
        """Guards that a command is not lost from main.cpp."""
        expected = {
            "filo": {"dataset", "features", "checkpoints", "config", "plan", "run", "reconcile", "cancel", "retry", "status", "logs", "report", "bench", "submit",
                     "doctor", "track"},
            "filo-worker": {"features", "train", "evaluate", "init-clip", "predict", "probe"},
        }
        for name, path in PROGRAMS.items():
            self.assertLessEqual(expected[name], set(subcommands(path)), name)
        self.assertLessEqual({"add", "verify", "list", "generate"}, set(subcommands(PROGRAMS["filo"], "dataset")))

    def test_every_command_has_help(self):
        """Guards --help: exit 0, on stdout, and more than the option itself."""
        for path in PROGRAMS.values():
            for words in all_commands(path):
                result = run(path, *words, "--help")
                self.assertEqual(result.returncode, 0, words)
                self.assertGreater(len(result.stdout.splitlines()), 3, words)
                self.assertEqual(result.stderr, "", words)

    def test_version_is_name_and_number(self):
        for name, path in PROGRAMS.items():
            result = run(path, "--version")
            self.assertEqual(result.returncode, 0)
            self.assertRegex(result.stdout, rf"^{name} \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_exit_code_2_and_one_line(self):
        for name, path in PROGRAMS.items():
            self.assert_one_line_error(run(path, "no-such-command"), 2, "no-such-command", f"see `{name} --help`")
            for words in all_commands(path):
                if words and not subcommands(path, *words):
                    help_of_it = f"see `{' '.join((name, *words))} --help`"
                    self.assert_one_line_error(run(path, *words, "--no-such-option"), 2, '"--no-such-option"', help_of_it)

    def test_a_program_or_family_alone_prints_its_help(self):
        """Guards the first thing that anyone types; exit code 2, on stderr: a script that lost its command stops."""
        for path in PROGRAMS.values():
            for words in all_commands(path):
                if subcommands(path, *words):
                    result = run(path, *words)
                    self.assertEqual((result.returncode, result.stdout), (2, ""), words)
                    self.assertEqual(result.stderr, run(path, *words, "--help").stdout, words)

    def test_help_is_a_command_too(self):
        for path in PROGRAMS.values():
            self.assertEqual(run(path, "help").stdout, run(path, "--help").stdout)
        filo = PROGRAMS["filo"]
        for words in (("run",), ("dataset",), ("dataset", "add")):
            self.assertEqual(run(filo, "help", *words).stdout, run(filo, *words, "--help").stdout)

    def test_an_unknown_word_is_named_with_the_nearest(self):
        filo, worker = PROGRAMS["filo"], PROGRAMS["filo-worker"]
        for command, *parts in (
            ((filo, "run", "--workspce", "x", "e.yaml"), '"--workspce"', "did you mean --workspace?", "see `filo run --help`"),
            ((filo, "run", "--workspce=x"), '"--workspce"', "did you mean --workspace?"),  # rather than: FILE is missing
            ((filo, "report", "-workspace", "x"), '"-workspace"', "did you mean --workspace?"),
            ((filo, "--workspace", "x", "run", "e.yaml"), '"--workspace"', "filo run --workspace"),
            ((filo, "status", "a", "b"), '"b"', "EXPERIMENT"),
            ((filo, "statu"), '"statu"', "did you mean status?"),
            ((filo, "dataset", "lst"), '"lst"', "did you mean list?", "see `filo dataset --help`"),
            ((filo, "show", "e.yaml"), '"show"', "did you mean config show?"),
            ((filo, "version"), '"version"', "did you mean --version?"),
            ((worker, "predict", "--chekpoint", "x"), '"--chekpoint"', "did you mean --checkpoint?", "see `filo-worker predict --help`"),
        ):
            with self.subTest(command=command[1:]):
                self.assert_one_line_error(run(*command), 2, *parts)

    def test_what_is_missing_is_named(self):
        filo, worker = PROGRAMS["filo"], PROGRAMS["filo-worker"]
        for command, *parts in (
            ((filo, "run"), "missing FILE (Experiment file", "see `filo run --help`"),
            ((filo, "submit"), "missing FILE"),
            ((worker, "predict"), "missing --checkpoint, --class, --image"),
            ((filo, "run", "e.yaml", "--workspace"), "--workspace: found no value", "Workspace folder"),
            ((filo, "status", "--workspace", "--json"), '--workspace: found the option "--json", expected a value'),
            ((filo, "dataset", "add", ".", "--name", "--jsn"), '--name: found the option "--jsn", expected a value'),
            ((filo, "status", "--workspace", ""), '--workspace: found "", expected a value'),
            ((filo, "status", "--workspace", "a", "--workspace", "b"), "--workspace: found 2 values, expected one"),
            ((filo, "status", "--json=maybe"), "--json: found a value, expected none"),
        ):
            with self.subTest(command=command[1:]):
                self.assert_one_line_error(run(*command), 2, *parts)

    def test_a_wrong_word_is_answered_with_those_there_are(self):
        filo, worker = PROGRAMS["filo"], PROGRAMS["filo-worker"]
        for command, *parts in (
            ((filo, "report", "x", "--format", "xml"), '--format: found "xml", expected one of csv, html, json, md, tex'),
            ((worker, "init-clip", "--out", "x", "--size", "huge"), '--size: found "huge", expected one of base, large, tiny'),
            ((worker, "bench", "step", "--class", "a", "--dtype", "fp8"), '--dtype: found "fp8", expected one of bf16, fp32'),
            ((worker, "bench", "step", "--class", "a", "--profile", "x"), '--profile: found "x", expected one of paper, filo-release'),
            ((filo, "dataset", "add", ".", "--name", "a", "--format", "xx"), "'xx', expected auto, mvtec, visa, meta, folder or table"),
        ):
            with self.subTest(command=command[1:]):
                self.assert_one_line_error(run(*command), 2, *parts)

    def test_every_number_is_checked(self):
        """Guards that no option of a number was added without its range: CLI11 alone says 'Could not convert'."""
        checked = 0
        for path in PROGRAMS.values():
            for words in all_commands(path):
                text = run(path, *words, "--help").stdout
                for option in re.findall(r"^  (?:-\w,)?(--[\w-]+) (?:UINT|INT|FLOAT)\b", text, re.MULTILINE):
                    with self.subTest(words=words, option=option):
                        message = rf'{option}: found "12x", expected a (whole )?number (of at least|from) [\d.]+( to [\d.]+)? \(see '
                        result = run(path, *words, option, "12x")
                        self.assertRegex(result.stderr, message)
                        self.assert_one_line_error(result, 2)
                        checked += 1
        self.assertGreater(checked, 25)

    def test_a_file_that_is_not_there_is_named(self):
        filo, worker = PROGRAMS["filo"], PROGRAMS["filo-worker"]
        self.assert_one_line_error(run(filo, "serve", "--tls-key", "nope"), 2, '--tls-key: found no such file: "nope"')
        self.assert_one_line_error(run(worker, "predict", "--checkpoint", "x", "--class", "a", "--image", "/"), 2,
                                   '--image: found the folder "/", expected a file')

    def test_words_that_are_not_utf8_are_refused_in_words(self):
        """Guards JSON files, which hold paths and names, from bytes that they cannot hold."""
        for path in PROGRAMS.values():
            for words in all_commands(path):
                result = run(path, *words, b"caf\xe9.yaml")
                self.assert_one_line_error(result, 2, r'"caf\xE9.yaml", which is not valid UTF-8')
        environment = {**os.environb, b"FILO_WORKSPACE": b"w\xe9"}
        self.assert_one_line_error(run(PROGRAMS["filo"], "status", env=environment), 2, "FILO_WORKSPACE", r'"w\xE9"')

    def test_a_missing_experiment_file_names_the_file(self):
        for words in (("config", "show"), ("plan",), ("run",)):
            with tempfile.TemporaryDirectory() as folder:
                result = run(PROGRAMS["filo"], *words, "absent.yaml", cwd=folder)
                self.assert_one_line_error(result, 2, "absent.yaml")

    def test_a_wrong_key_names_line_and_nearest_key(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/e.yaml", "w") as file:
                file.write(
                    "name: e\ndata: {a: x, b: y}\nfolds: [{train: a, test: b}]\nmodel:\n  clip: c\n  imagesize: 224\n"
                )
            result = run(PROGRAMS["filo"], "config", "show", "e.yaml", cwd=folder)
            self.assert_one_line_error(result, 2, "e.yaml:6", "imagesize", "did you mean image_size?")

    def test_an_unknown_stage_is_an_error_and_no_crash(self):
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("features", "train", "evaluate"):
                result = run(PROGRAMS["filo-worker"], kind, "--workspace", folder, "--stage", "0123456789abcdef")
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn("0123456789abcdef", result.stderr)

    def test_doctor_tells_what_works_and_how_the_rest_is_mended(self):
        """Guards filo doctor without a cluster: exit code 0 here, 1 and a mend for a workspace that cannot be."""
        environment = dict(os.environ, FILO_WORKER=PROGRAMS["filo-worker"])
        with tempfile.TemporaryDirectory() as folder:
            result = run(PROGRAMS["filo"], "doctor", "--workspace", folder, "--json", env=environment)
            answer = json.loads(result.stdout)
            self.assertEqual((result.returncode, answer["works"]), (0, True), answer)
            self.assertIn("file locks", {check["name"] for check in answer["checks"]})
            self.assertEqual(os.listdir(folder), [])
        result = run(PROGRAMS["filo"], "doctor", "--workspace", "/proc/filo", env=environment)
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertRegex(result.stdout, r"FAILS +workspace: .*/proc/filo.*\n +mend: ")

    def test_an_unknown_cluster_key_names_line_and_nearest_key(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/c.yaml", "w") as file:
                file.write("name: c\npartion: main\n")
            result = run(PROGRAMS["filo"], "doctor", "--cluster", "c.yaml", cwd=folder)
            self.assert_one_line_error(result, 2, "c.yaml:2", "partion", "did you mean partition?")

    def test_an_unknown_data_set_names_it(self):
        with tempfile.TemporaryDirectory() as folder:
            result = run(PROGRAMS["filo"], "dataset", "verify", "absent", "--workspace", folder)
            self.assert_one_line_error(result, 2, "absent")


if __name__ == "__main__":
    unittest.main()
