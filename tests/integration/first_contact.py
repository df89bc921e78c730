"""What a newcomer meets: folders that are not there or are something else, and what the message says to do about it."""

import os
import pathlib
import struct
import subprocess
import tempfile
import unittest
import zlib

FILO, WORKER = os.environ["FILO"], os.environ["FILO_WORKER"]

EXPERIMENT = """\
name: first
data: {a: washers, b: boards}
folds: [{train: a, test: b}]
model: {clip: weights, image_size: 224}
"""

# Each command of `filo` that looks at a workspace, or changes what is in it, but has nothing to put into one.
READING = (
    ("status",),
    ("status", "first"),
    ("logs", "0123"),
    ("report", "first"),
    ("cancel", "first"),
    ("retry", "first"),
    ("reconcile",),
    ("dataset", "list"),
    ("dataset", "show", "washers"),
    ("dataset", "verify", "washers"),
    ("dataset", "remove", "washers"),
    ("plan", "e.yaml"),
    ("run", "e.yaml"),
    ("submit", "e.yaml", "--cluster", "c.yaml"),
    ("submit", "e.yaml", "--cluster", "c.yaml", "--dry-run"),
)


def png(path):
    """A grey image of 64 x 64 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress((b"\0" + b"\x7f" * 64) * 64)) + chunk(b"IEND", b""))


class FirstContact(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()
        (self.folder / "e.yaml").write_text(EXPERIMENT)
        (self.folder / "c.yaml").write_text("name: c\npartition: main\n")
        self.environment = {key: value for key, value in os.environ.items() if key != "FILO_WORKSPACE"}

    def run_in_folder(self, *command):
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, stdin=subprocess.DEVNULL,
                              cwd=self.folder, env=self.environment)

    def assert_refused(self, command, *parts):
        """Exit code 2, one line on stderr with each of the parts, nothing on stdout, and nothing new in the folder."""
        before = sorted(self.folder.rglob("*"))
        result = self.run_in_folder(*command)
        self.assertEqual((result.returncode, result.stdout), (2, ""), f"{command}: {result.stderr}")
        self.assertEqual(result.stderr.count("\n"), 1, f"{command}: not one line: {result.stderr!r}")
        for part in parts:
            self.assertIn(part, result.stderr, command)
        self.assertEqual(sorted(self.folder.rglob("*")), before, command)

    def test_only_who_puts_something_in_makes_a_workspace(self):
        """Guards against `--workspace` misspelt: no empty folder beside the right one, and never exit code 0."""
        for command in READING:
            with self.subTest(command=command):
                self.assert_refused((FILO, *command, "--workspace", "wrokspace"), f"{self.folder}/wrokspace",
                                    "found no such folder", "--workspace", "filo dataset add")
        for kind in ("features", "boxes", "train", "evaluate", "export"):
            with self.subTest(kind=kind):
                command = (WORKER, kind, "--workspace", "wrokspace", "--stage", "0123456789abcdef")
                self.assert_refused(command, f"{self.folder}/wrokspace", "found no such folder", "--workspace")

    def test_a_file_in_place_of_a_workspace_is_named(self):
        (self.folder / "file").write_text("")
        for command in (*READING, ("serve", "--listen", "127.0.0.1:0")):
            with self.subTest(command=command):
                self.assert_refused((FILO, *command, "--workspace", "file"), f"{self.folder}/file", "found a file")

    def test_dataset_add_makes_a_workspace_and_says_so(self):
        png(self.folder / "images/washer/good/1.png")
        add = (FILO, "dataset", "add", "images", "--name", "washers", "--workspace", "w")
        self.assertIn("made the workspace w", self.run_in_folder(*add).stdout)
        self.assertNotIn("made the workspace", self.run_in_folder(*add).stdout)
        self.assert_refused((FILO, "dataset", "verify", "wahsers", "--workspace", "w"), "did you mean washers?")
        self.assert_refused((FILO, "status", "frist", "--workspace", "w"), "frist")
        self.assert_refused((FILO, "plan", "e.yaml", "--workspace", "w"), "boards", "filo dataset add")

    def test_a_folder_without_images_is_answered_with_what_was_expected(self):
        png(self.folder / "images/washer/good/1.png")
        for folder, *parts in (("nowhere", "found no such folder"), ("e.yaml", "is not a folder"),
                               ("images/washer/good", "CLASS/good/*.png")):
            result = self.run_in_folder(FILO, "dataset", "add", folder, "--name", "a", "--workspace", "w")
            self.assertEqual(result.returncode, 2)
            for part in parts:
                self.assertIn(part, result.stderr)
            self.assertFalse((self.folder / "w").exists(), folder)

    def test_a_layout_without_its_listing_is_named(self):
        png(self.folder / "images/washer/good/1.png")
        for layout, listing in (("visa", "split_csv/1cls.csv"), ("meta", "meta.json")):
            result = self.run_in_folder(FILO, "dataset", "add", "images", "--name", "a", "--format", layout, "--workspace", "w")
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(f"{listing}: is missing, expected", result.stderr)

    def test_labels_alone_are_added_and_what_they_are_good_for_is_said(self):
        for name in ("good/1", "chipped/1", "chipped/2"):
            png(self.folder / f"images/cup/{name}.png")
        add = (FILO, "dataset", "add", "images", "--name", "cups", "--workspace", "w")
        self.assertIn("2 of 2 anomalous images have no mask: they count for image metrics only", self.run_in_folder(*add).stdout)
        png(self.folder / "images/cup/masks/chipped/1.png")
        result = self.run_in_folder(*add)
        self.assertEqual(result.returncode, 2)
        self.assertIn("chipped/2.png: its mask is missing", result.stderr)
        self.assertIn("--masks optional", result.stderr)
        self.assertIn("with the same content", self.run_in_folder(*add, "--masks", "none").stdout)
        self.assertIn("1 of 2 anomalous", self.run_in_folder(*add[:4], "--name", "some", "--masks", "optional", "--workspace", "w").stdout)
        self.assertIn("expected auto, required, optional or none", self.run_in_folder(*add, "--masks", "some").stderr)

    def test_a_data_set_is_shown_and_removed(self):
        for name in ("good/1", "chipped/1"):
            png(self.folder / f"images/cup/{name}.png")
        self.run_in_folder(FILO, "dataset", "add", "images", "--name", "cups", "--workspace", "w")
        shown = self.run_in_folder(FILO, "dataset", "show", "cups", "--sheet", "sheet.png", "--workspace", "w")
        self.assertRegex(shown.stdout, r"cup +test +chipped +1 +0 +64 x 64\n")
        self.assertIn("wrote sheet.png", shown.stdout)
        self.assertEqual((self.folder / "sheet.png").read_bytes()[:4], b"\x89PNG")

        remove = (FILO, "dataset", "remove", "cups", "--workspace", "w")
        plan = self.folder / "w/experiments/first/plan.json"
        plan.parent.mkdir(parents=True)
        plan.write_text('{"experiment": {"data": {"a": "cups"}}}')
        refused = self.run_in_folder(*remove)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("cups: is named by the plan of first", refused.stderr)
        plan.write_text("{")
        self.assertEqual(self.run_in_folder(*remove).returncode, 1)
        plan.write_text('{"experiment": {"data": {"a": "mugs"}}}')
        self.assertIn("removed cups", self.run_in_folder(*remove).stdout)
        self.assertEqual(self.run_in_folder(*remove).returncode, 2)
        self.assertTrue((self.folder / "images/cup/good/1.png").exists())

    def test_init_clip_overwrites_only_what_it_wrote(self):
        """Guards a file, and a folder with a config.json of something else, from being replaced by weights."""
        (self.folder / "empty").write_text("")
        (self.folder / "project").mkdir()
        (self.folder / "project/config.json").write_text("{}")
        for out in ("empty", "project"):
            self.assert_refused((WORKER, "init-clip", "--size", "tiny", "--out", out), out, "not overwritten")
        self.assert_refused((WORKER, "init-clip", "--size", "tiny", "--out", "w", "--vocabulary", "v.gz"), "v.gz", "no such file",
                            "bpe_simple_vocab_16e6.txt.gz", "--vocabulary")

    def test_names_that_are_not_utf8_are_problems_of_a_line_each(self):
        """Guards folders from other machines: each image is named, with the bytes that are wrong."""
        png(os.fsencode(self.folder) + b"/images/washer/good/caf\xe9.png")
        png(os.fsencode(self.folder) + b"/images/cl\xe9/good/1.png")
        result = self.run_in_folder(FILO, "dataset", "add", "images", "--name", "a", "--workspace", "w")
        self.assertEqual(result.returncode, 2)
        self.assertIn(r"washer/good/caf\xE9.png: the path is not UTF-8", result.stderr)
        self.assertIn(r"cl\xE9/good/1.png: the path is not UTF-8", result.stderr)
        png(os.fsencode(self.folder) + b"/d\xe9/washer/good/1.png")
        (self.folder / "link").symlink_to(os.fsdecode(b"d\xe9"))
        self.assert_refused((FILO, "dataset", "add", "link", "--name", "a", "--workspace", "w"), r"d\xE9", "UTF-8")

    def test_a_folder_that_is_not_utf8_is_no_workspace(self):
        place = os.fsencode(self.folder) + b"/w\xe9/workspace"
        os.makedirs(place)
        result = subprocess.run([FILO, "status"], capture_output=True, encoding="utf-8", cwd=os.path.dirname(place),
                                env=self.environment)
        self.assertEqual(result.returncode, 2)
        self.assertIn(r"w\xE9/workspace: the path is not valid UTF-8", result.stderr)

    def test_predict_says_what_a_checkpoint_is(self):
        png(self.folder / "1.png")
        stage = self.folder / "w/stages/0123456789abcdef"
        (stage / "checkpoint").mkdir(parents=True)

        def refused(checkpoint, *parts):
            command = (WORKER, "predict", "--checkpoint", checkpoint, "--class", "washer", "--image", "1.png")
            self.assert_refused(command, checkpoint, "stages/KEY/checkpoint", "filo report", *parts)

        refused("nowhere", "found no such folder")
        refused("w", "found no settings.json and no params.safetensors in it")
        (stage / "checkpoint/settings.json").write_text("{}")
        refused(f"{stage}/checkpoint", "found no params.safetensors in it")
        (stage / "checkpoint/params.safetensors").write_text("")
        refused(f"{stage}", f"did you mean {stage}/checkpoint?")
        refused(f"{stage}/checkpoint/params.safetensors", f"did you mean {stage}/checkpoint?")


if __name__ == "__main__":
    unittest.main()
