"""A small table of the paper's kind, whole: `grid.py NAME` runs the check of that name on the demo's data and weights."""

import csv
import io
import json
import subprocess
import sys
import time

from demo import FILO, check, new_home, sha256

EXPERIMENT = """
name: grid
base: size-demo.yaml
folds: [{train: mvtec, test: visa, name: VisA}]
include:
  - {name: none, model.mdci.kernels: []}
  - {name: plain & 3x3, model.mdci.kernels: [[3, 3]], model.mdci.deformable: false}
  - {name: boxes, model.boxes.source: file}
seeds: [0, 1]
tables:
  - title: Kernels
    rows: [WinCLIP, none, plain & 3x3, boxes]
    metrics: [image_auroc, pixel_auroc]
    paper: {WinCLIP: {VisA: [78.1, 79.6]}, none: {VisA: [78.5, 93.5]}}
"""


def filo(home, *words):
    command = [FILO, *words, "--workspace", "demo/workspace"]
    result = subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    check(result.returncode == 0, f"{' '.join(words)} ended with {result.returncode}: {result.stderr}{result.stdout}")
    return result.stdout


def from_points_to_the_table():
    """Guards the way from named points over a base to a table beside the paper's numbers, in every format."""
    home = new_home("grid-home")
    (home / "configs").unlink()
    (home / "configs").mkdir()
    source = (home / "../demo-home/configs").resolve()
    for folder in ("descriptions", "experiments"):
        (home / "configs" / folder).symlink_to(source / folder)
    (home / "size-demo.yaml").symlink_to(source / "experiments/size-demo.yaml")
    (home / "grid.yaml").write_text(EXPERIMENT)

    plan = json.loads(filo(home, "plan", "grid.yaml", "--json"))
    check(len(plan["trials"]) == 4, f"{len(plan['trials'])} trials; the base excludes the point with boxes")
    kinds = {kind["kind"]: kind["stages"] for kind in plan["kinds"]}
    check(kinds == {"features": 2, "train": 4, "evaluate": 4}, f"stages: {kinds}")

    start = time.monotonic()
    printed = filo(home, "run", "grid.yaml")
    print(printed)
    print(f"{time.monotonic() - start:.0f} s")
    check("WinCLIP" in printed and "(78.1)" in printed, "the paper's row is missing")

    report = json.loads(filo(home, "report", "grid.yaml", "--format", "json"))
    trials = {(t["axis_values"]["name"], t["axis_values"]["train.seed"]): t for t in report["trials"]}
    rows = {row["label"]: row["cells"] for row in report["tables"][0]["rows"]}
    for name in ("none", "plain & 3x3"):
        for column, metric in enumerate(("image_auroc", "pixel_auroc")):
            a, b = (100 * trials[name, seed]["metrics"][metric] for seed in (0, 1))
            check(abs(rows[name][column]["mean"] - (a + b) / 2) < 1e-9, f"mean of {name}, {metric}")
            spread = abs(a - b) / 2**0.5
            check(abs(rows[name][column]["standard_deviation"] - spread) < 1e-9, f"spread of {name}, {metric}")
    check(rows["WinCLIP"][0]["mean"] is None and rows["WinCLIP"][0]["paper"] == 78.1, f"WinCLIP: {rows['WinCLIP']}")
    check(rows["boxes"][0]["mean"] is None, "the excluded point has a value")

    table = list(csv.reader(io.StringIO(filo(home, "report", "grid.yaml", "--format", "csv"))))
    check(float(table[2][1]) == rows["none"][0]["mean"], f"CSV: {table[2]}")
    check("plain \\& 3x3" in filo(home, "report", "grid.yaml", "--format", "tex"), "LaTeX is not escaped")
    check("plain &amp; 3x3" in filo(home, "report", "grid.yaml", "--format", "html"), "HTML is not escaped")
    check("| none |" in filo(home, "report", "grid", "--format", "md"), "Markdown")

    artifacts = home / "demo/workspace/artifacts"
    for trial in report["trials"]:
        digest = trial["checkpoint"].rstrip("/").split("/")[-1]
        kept, own = (folder / "params.safetensors" for folder in (
            artifacts / digest, home / "demo/workspace/stages" / trial["train"] / "checkpoint"))
        check(sha256(kept) == sha256(own), f"the artifact of {trial['train']} is not its checkpoint")
    check(len(list(artifacts.iterdir())) == 4, "four trainings, four artifacts")
    done = json.loads(filo(home, "plan", "grid.yaml", "--json"))
    check(done["stages_done"] == len(done["stages"]) and done["estimate_s"] == 0, "something is left to run")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
