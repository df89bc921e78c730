"""Snapshots (checkpoint/snapshot.hpp) as outside tools see them: sha256sum -c, the safetensors package, damage."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

PROBE = pathlib.Path(os.environ["FILO"]).parent / "snapshot_probe"


def run(*arguments, **options):
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, check=False, **options)


def expect(condition, what):
    if not condition:
        sys.exit(f"snapshot: {what}")


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder) / "snapshots"
    written = run(PROBE, folder)
    expect(written.returncode == 0, written.stderr)
    expect(sorted(p.name for p in folder.iterdir()) == ["step-00000050", "step-00000100"], "names of the snapshots")
    newest = folder / "step-00000100"
    sums = run("sha256sum", "--strict", "-c", "SHA256SUMS", cwd=newest)
    expect(sums.returncode == 0 and sums.stdout.count(": OK") == 3, f"sha256sum -c: {sums.stdout}{sums.stderr}")
    known = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name, factor in (("params", 1), ("optimizer", 0.5)):
        tensors = load_file(newest / f"{name}.safetensors")
        expect(list(tensors) == ["prompts.vectors"], f"{name}: tensors {list(tensors)}")
        expect(np.array_equal(tensors["prompts.vectors"], factor * known), f"{name}: values")
    expect(json.loads((newest / "state.json").read_text()) == {"step": 100, "epoch": 3}, "state.json")

    expect(run(PROBE, "--newest", folder).stdout == "100\n", "newest of two")
    with open(newest / "params.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    expect(run("sha256sum", "-c", "SHA256SUMS", cwd=newest).returncode != 0, "sha256sum sees no damage")
    expect(run(PROBE, "--newest", folder).stdout == "50\n", "a damaged snapshot was not passed over")
print("snapshot: sha256sum -c, safetensors and damage agree")
