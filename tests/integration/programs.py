"""What both programs promise on the command line (DESIGN section 1): help, version, exit codes, errors of one line."""

import json
import os
import re
import subprocess
import tempfile
import unittest

PROGRAMS = {"filo": os.environ["FILO"], "filo-worker": os.environ["FILO_WORKER"]}


def run(*arguments, **options):
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **options
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
            "filo": {"dataset", "config", "plan", "run", "reconcile", "cancel", "retry", "status", "logs", "report", "bench", "submit",
                     "doctor"},
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
        for path in PROGRAMS.values():
            self.assert_one_line_error(run(path), 2)
            self.assert_one_line_error(run(path, "no-such-command"), 2, "no-such-command")
            for words in all_commands(path):
                if words and not subcommands(path, *words):
                    self.assert_one_line_error(run(path, *words, "--no-such-option"), 2)

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
