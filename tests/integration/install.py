"""`make install`: what lies where, and that it works from the place it was installed to."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["FILO_SOURCE_DIR"])
BUILD = pathlib.Path(os.environ["FILO"]).parents[1]


def run(*command, expect=0, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **options)
    if expect is not None:
        assert result.returncode == expect, f"{command} ended with {result.returncode}: {result.stdout}{result.stderr}"
    return result


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="filo-install-")
        cls.home = pathlib.Path(cls.folder.name)
        run("cmake", "--install", BUILD, "--prefix", "/opt/filo", env={**os.environ, "DESTDIR": str(cls.home / "stage")})
        cls.prefix = cls.home / "moved" / "filo"
        cls.prefix.parent.mkdir()
        (cls.home / "stage/opt/filo").rename(cls.prefix)  # nothing may remember /opt/filo
        cls.empty = cls.home / "empty"
        cls.empty.mkdir()
        cls.make_what_the_demo_needs()

    @classmethod
    def make_what_the_demo_needs(cls):
        """Data sets in a workspace and random weights, by the installed programs."""
        filo, worker = cls.prefix / "bin/filo", cls.prefix / "bin/filo-worker"
        sizes = ("--size", 112, "--train", 1, "--good", 3, "--defective", 4)
        for name, family in (("generated-parts", "parts"), ("generated-boards", "boards")):
            run(filo, "dataset", "generate", "--family", family, "--out", f"data/{family}", "--seed", 1, *sizes, cwd=cls.empty)
            run(filo, "dataset", "add", f"data/{family}", "--name", name, cwd=cls.empty)
        vocabulary = SOURCE / ".deps/bpe/bpe_simple_vocab_16e6.txt.gz"
        run(worker, "init-clip", "--size", "tiny", "--vocabulary", vocabulary, "--out", "demo/weights/clip-tiny", cwd=cls.empty)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def filo(self, *words, **options):
        return run(self.prefix / "bin/filo", *words, cwd=self.empty, **options)

    def worker(self, *words):
        return run(self.prefix / "bin/filo-worker", *words, cwd=self.empty)

    def test_every_file_lies_in_its_usual_folder(self):
        for file in ("bin/filo", "bin/filo-worker", "share/filo/configs/experiments/paper.yaml", "share/doc/filo/LICENSE", "share/doc/filo/NOTICE",
                     "share/doc/filo/docs/architecture.md", "share/man/man1/filo.1", "share/man/man1/filo-worker.1",
                     "share/bash-completion/completions/filo", "share/bash-completion/completions/filo-worker",
                     "share/zsh/site-functions/_filo", "share/zsh/site-functions/_filo-worker", "include/filo/base/json.hpp"):
            self.assertTrue((self.prefix / file).is_file(), file)
        self.assertEqual(list((self.home / "stage/opt").iterdir()), [])

    def test_the_programs_start_from_any_folder(self):
        for name, ask in (("filo", self.filo), ("filo-worker", self.worker)):
            self.assertRegex(ask("--version").stdout, rf"^{name} \d+\.\d+\.\d+\n$")
        loaded = run("ldd", self.prefix / "bin/filo-worker").stdout
        self.assertNotIn("not found", loaded)
        self.assertIn("libtorch_cpu.so", loaded)

    def test_configs_are_found_from_the_installed_place(self):
        """Templates with a base, with included files and with a descriptions file, from a folder that has no configs/."""
        self.assertIn("table-1", self.filo("config", "show", "configs/experiments/paper.yaml").stdout)
        (self.empty / "elsewhere").mkdir()
        (self.empty / "elsewhere/mine.yaml").write_text((SOURCE / "configs/experiments/demo-smallest.yaml").read_text())
        (self.empty / "elsewhere/with-base.yaml").write_text("name: mine\nbase: configs/experiments/size-demo.yaml\n")
        shown = self.filo("config", "show", "elsewhere/with-base.yaml").stdout
        self.assertIn("configs/descriptions/generated.yaml", shown)

        for file in ("configs/experiments/demo-smallest.yaml", "elsewhere/mine.yaml"):
            self.assertIn("6 distinct stages", self.filo("plan", file).stdout)

    def test_a_descriptions_file_that_is_nowhere_is_named_with_its_key(self):
        text = (SOURCE / "configs/experiments/demo-smallest.yaml").read_text()
        (self.empty / "wrong.yaml").write_text(text.replace("configs/descriptions/generated.yaml", "configs/descriptions/absent.yaml"))
        message = self.filo("plan", "wrong.yaml", expect=2).stderr
        for part in ("model.prompts.descriptions", "configs/descriptions/absent.yaml"):
            self.assertIn(part, message)

    def test_man_pages_name_every_command_and_are_sound(self):
        for name in ("filo", "filo-worker"):
            page = self.prefix / f"share/man/man1/{name}.1"
            groff = shutil.which("groff")
            if not groff:
                self.skipTest("groff is not installed")
            result = run(groff, "-man", "-Tascii", "-ww", "-P-c", "-P-b", "-P-u", page)
            self.assertEqual(result.stderr, "")
            commands = re.findall(r"^  (\S+) ", run(self.prefix / "bin" / name, "--help").stdout.partition("Subcommands:")[2], re.MULTILINE)
            self.assertGreater(len(commands), 5)
            for command in commands:
                self.assertIn(f"{name} {command} ", result.stdout)

    def complete(self, *words):
        """What bash offers for the last of the words."""
        script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
                  '_filo; printf "%s\\n" "${COMPREPLY[@]}"')
        return set(run("bash", "-c", script, "bash", self.prefix / "share/bash-completion/completions/filo", *words).stdout.split())

    def test_bash_completes_commands_and_options(self):
        self.assertEqual(self.complete("filo", "re"), {"reconcile", "retry", "report"})
        self.assertEqual(self.complete("filo", "dataset", ""), {"add", "show", "verify", "list", "remove", "generate"})
        self.assertEqual(self.complete("filo", "run", "--js"), {"--json"})
        self.assertEqual(self.complete("filo", "run", ""), set())  # the names of files

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh_reads_its_completions(self):
        for name in ("_filo", "_filo-worker"):
            run("zsh", "-n", self.prefix / "share/zsh/site-functions" / name)

    def test_a_project_outside_finds_the_libraries(self):
        project = self.home / "package"
        shutil.copytree(SOURCE / "tests/integration/package", project)
        run("cmake", "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", project / "build")
        said = run(project / "build/uses_filo", self.prefix / "share/filo/configs/descriptions/generated.yaml", cwd=project).stdout
        self.assertEqual(said, "two: [2] F16\nposition: bottom right\nclasses: 8\n")


if __name__ == "__main__":
    unittest.main()
