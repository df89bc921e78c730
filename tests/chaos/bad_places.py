"""Places that fail: a workspace without write permission, a disk that is full, an index that is none. Clear errors, and
nothing lost: afterwards the same command goes on from there."""

import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
import unittest

from chaos import FILO, Place

NOBODY = 65534


def filo(place, *arguments, **options):
    return subprocess.run(
        [FILO, *arguments, "--workspace", str(place.workspace)],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        **options,
    )


class BadPlaces(unittest.TestCase):
    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="filo-bad-places-"))
        self.home.chmod(0o755)
        self.place = Place(self.home / "place", seeds=1)

    def tearDown(self):
        subprocess.run(["chmod", "-R", "u+w", str(self.home)], check=True)
        shutil.rmtree(self.home)

    def assert_one_line(self, result, *parts):
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_a_workspace_without_write_permission(self):
        """Guards that what changes nothing works there, and what would write says which folder."""
        self.assertEqual(filo(self.place, "run", str(self.place.experiment)).returncode, 0)
        subprocess.run(["chmod", "-R", "a-w", str(self.place.workspace)], check=True)
        options = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        for command in (["run", str(self.place.experiment)], ["reconcile"], ["cancel", "chaos"], ["retry", "chaos"]):
            result = filo(self.place, *command, **options)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assert_one_line(result, str(self.place.workspace), "cannot be written")
        for command in (["status"], ["report", "chaos"]):
            result = filo(self.place, *command, **options)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("chaos", result.stdout.lower())

    def test_a_full_disk_loses_nothing(self):
        """Guards every write of the coordinator: an error that names the file, and the next run goes on."""
        table = None
        # No file may grow beyond this many bytes: what a full disk does to a write (EFBIG in place of ENOSPC).
        for limit in (0, 40, 150, 400, 3000):
            place = Place(self.home / f"full-{limit}", seeds=1)
            full = filo(
                place,
                "run",
                str(place.experiment),
                restore_signals=False,  # SIGXFSZ stays ignored, as Python has it
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            )
            self.assertEqual(full.returncode, 1, full.stderr)
            self.assertRegex(full.stderr, r"filo: .*: write failed: File too large|failed or were cancelled")
            self.assertNotIn("terminate", full.stderr)
            result = filo(place, "run", str(place.experiment))
            self.assertEqual(result.returncode, 0, result.stderr)
            table = table or place.table()
            place.check_outcome(table)

    def test_a_disk_without_a_free_block_loses_nothing(self):
        """Guards the same on a real file system that fills up (ENOSPC, also of folders and renames), and has room again."""
        own = [] if os.geteuid() == 0 else ["-U", "--map-root-user"]
        enter = ["unshare", *own, "-m", "bash", "-c"]
        if subprocess.run([*enter, "mount -t tmpfs tmpfs /mnt"], capture_output=True).returncode != 0:
            self.assertFalse(os.environ.get("FILO_SKIP_NOTHING"), "no mount of our own here (unshare -m)")
            self.skipTest("no mount of our own here (unshare -m)")
        undisturbed = Place(self.home / "undisturbed", seeds=1)
        undisturbed.run("run", str(undisturbed.experiment))
        script = """mount -t tmpfs -o size=$1 tmpfs "$2/workspace" && cp -r "$2/datasets" "$2/workspace" || exit 99
            "$3" run "$2/chaos.yaml" --workspace "$2/workspace" >"$2/full.out" 2>"$2/full"; echo $?
            mount -o remount,size=100m "$2/workspace" || exit 99
            "$3" run "$2/chaos.yaml" --workspace "$2/workspace" >"$2/again" 2>&1; echo $?
            "$3" report chaos --format csv --workspace "$2/workspace" >"$2/table"
            ls "$2/workspace/stages" | wc -l; ls "$2"/workspace/stages/*/result.json | wc -l"""
        for size in ("16k", "48k", "96k", "160k", "256k"):
            place = Place(self.home / f"small-{size}", seeds=1)
            shutil.move(place.workspace / "datasets", place.folder / "datasets")
            result = subprocess.run([*enter, script, "bash", size, str(place.folder), FILO], env=place.environment,
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
            full = (place.folder / "full").read_text()
            self.assertEqual(result.stdout.split(), ["1", "0", "8", "8"], f"{size}: {result.stderr}{full}{(place.folder / 'again').read_text()}")
            self.assertRegex(full, r"filo: .*No space left on device|failed or were cancelled")
            self.assertNotIn("terminate", full)
            self.assertEqual((place.folder / "table").read_text(), undisturbed.table())
            self.assertEqual(place.violations.read_text() if place.violations.exists() else "", "", size)

    def test_an_index_that_is_none_is_made_anew(self):
        """Guards that the index is never more than a help: one line of warning, and the same answer."""
        self.assertEqual(filo(self.place, "run", str(self.place.experiment)).returncode, 0)
        sound = filo(self.place, "status")
        index = pathlib.Path(self.place.environment["FILO_INDEX"])
        for text in (b"", b"no index" * 1000, index.read_bytes()[:5000]):
            index.write_bytes(text)
            for beside in ("-wal", "-shm"):
                pathlib.Path(str(index) + beside).unlink(missing_ok=True)
            result = filo(self.place, "status")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout, sound.stdout)
            if text:
                self.assert_one_line(result, str(index), "made anew")


if __name__ == "__main__":
    unittest.main()
