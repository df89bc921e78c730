"""The smallest demo, whole: `demo.py NAME` runs the check of that name. from_nothing_to_the_table comes first; the other
checks start from the folder that it leaves (FILO_SCRATCH/demo-home), and never change it."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

SOURCE = pathlib.Path(os.environ["FILO_SOURCE_DIR"])
SCRATCH = pathlib.Path(os.environ["FILO_SCRATCH"])
HOME = SCRATCH / "demo-home"
FILO = os.environ["FILO"]
WORKER = os.environ["FILO_WORKER"]
EXPERIMENT = "configs/experiments/demo-smallest.yaml"
SECONDS_ALLOWED = 600


def check(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


def run_demo():
    """tools/demo as `make demo` calls it, but small and in a folder of its own. Returns what it printed."""
    environment = dict(
        os.environ, FILO_DEMO_SIZE="smallest", FILO_DEMO_HOME=str(HOME), FILO_BIN=str(pathlib.Path(FILO).parent)
    )
    result = subprocess.run(
        [SOURCE / "tools/demo"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_ALLOWED,
    )
    print(result.stdout)
    check(result.returncode == 0, f"tools/demo ended with {result.returncode}")
    return result.stdout


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stages(workspace):
    """{key: (spec, result or None)}"""
    found = {}
    for folder in sorted((workspace / "stages").iterdir()):
        result = folder / "result.json"
        spec = json.loads((folder / "spec.json").read_text())
        found[folder.name] = (spec, json.loads(result.read_text()) if result.exists() else None)
    return found


def outcome(workspace):
    """What must not depend on how often a run was disturbed: every metric and every trained parameter, bit for bit."""
    found = {}
    for key, (spec, result) in stages(workspace).items():
        check(result is not None, f"stage {key} ({spec['kind']}) has no result")
        if spec["kind"] == "evaluate":
            found[key] = result["metrics"]
        if spec["kind"] == "train":
            found[key] = sha256(workspace / "stages" / key / result["artifacts"]["checkpoint"] / "params.safetensors")
    return found


def attempts(workspace):
    return sorted(str(path.relative_to(workspace)) for path in (workspace / "stages").glob("*/attempts/*"))


def from_nothing_to_the_table():
    """Guards the main job: both folds through every stage, ending with the table, heat maps and checkpoints."""
    shutil.rmtree(HOME, ignore_errors=True)
    printed = run_demo()
    workspace = HOME / "demo/workspace"
    kinds = [spec["kind"] for spec, _ in stages(workspace).values()]
    check(sorted(kinds) == ["evaluate"] * 2 + ["features"] * 2 + ["train"] * 2, f"stages: {kinds}")
    check(len(outcome(workspace)) == 4, "two checkpoints and two evaluations expected")
    for key, (spec, result) in stages(workspace).items():
        check(result["world_size"] == 2, f"{spec['kind']} {key} ran on {result['world_size']} ranks, 2 expected")
        if spec["kind"] == "evaluate":
            metrics = result["metrics"]
            check(0 <= metrics["image_auroc"] <= 1 and 0 <= metrics["pixel_auroc"] <= 1, f"metrics: {metrics}")
            check(len(metrics["classes"]) == 4, f"classes: {list(metrics['classes'])}")
            for found in (metrics, *metrics["classes"].values()):
                for name, (low, high) in found["intervals"].items():
                    check(0 <= low <= high <= 1, f"the interval of {name}: {low} to {high}")
                check(len(found["intervals"]) == 8, f"intervals of {list(found['intervals'])}, eight metrics expected")
            events = (workspace / "stages" / key / "attempts/1/events.jsonl").read_text()
            check('"needs"' in events.partition('"progress"')[0], "what the metrics need is not told before the work")
            heat_maps = list((workspace / "stages" / key / "heat_maps").glob("*/*.png"))
            check(len(heat_maps) == 4, f"{len(heat_maps)} heat maps, one a class expected")
    for word in ("parts->boards", "boards->parts", "image AUROC", "pixel AUROC"):
        check(word in printed, f"the output does not name {word}")


def a_repeat_runs_nothing_again():
    """Guards that what is done is not done again: no new attempt, and the same table at once."""
    before = attempts(HOME / "demo/workspace")
    start = time.monotonic()
    printed = run_demo()
    seconds = time.monotonic() - start
    check(attempts(HOME / "demo/workspace") == before, "a finished stage was started again")
    check(seconds < 15, f"a repeat took {seconds:.0f} s")
    check("image AUROC" in printed, "the table is missing")


def new_home(name):
    """A folder like HOME with the same weights and data, and a workspace that knows only the data sets."""
    home = SCRATCH / name
    shutil.rmtree(home, ignore_errors=True)
    (home / "demo/workspace").mkdir(parents=True)
    for link in ("configs", "demo/weights", "demo/data"):
        (home / link).symlink_to((HOME / link).resolve())
    shutil.copytree(HOME / "demo/workspace/datasets", home / "demo/workspace/datasets")
    return home


def start_filo(home):
    log = open(home / "log.txt", "a")
    return subprocess.Popen(
        [FILO, "run", EXPERIMENT, "--workspace", "demo/workspace"],
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def killed_at_any_moment_it_ends_with_the_same_numbers():
    """Guards restarts: `kill -9` of filo and all of its group at seeded moments, then the same metrics and parameters as
    the run that nobody disturbed."""
    home = new_home("killed-home")
    moments = random.Random(20261124)
    span = sum(result["seconds"] for _, result in stages(HOME / "demo/workspace").values())  # of a run, on this machine
    kills = 0
    deadline = time.monotonic() + SECONDS_ALLOWED
    for _ in range(8):
        process = start_filo(home)
        try:
            code = process.wait(timeout=moments.uniform(0.05, 0.4) * span)
            check(code == 0, f"filo run ended with {code} before it was killed:\n{(home / 'log.txt').read_text()}")
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    process = start_filo(home)
    code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
    check(code == 0, f"filo run after {kills} kills ended with {code}:\n{(home / 'log.txt').read_text()}")
    check(kills >= 3, f"only {kills} kills came in time: the moments test nothing")
    check(outcome(home / "demo/workspace") == outcome(HOME / "demo/workspace"), f"other numbers after {kills} kills")
    print(f"killed {kills} times, {len(attempts(home / 'demo/workspace'))} attempts, same numbers")


def training_reads_nothing_of_the_test_data():
    """Guards zero-shot: training gives the same parameters where the test data set, its features and even its name are
    gone."""
    workspace = HOME / "demo/workspace"
    for key, (spec, _) in stages(workspace).items():
        if spec["kind"] != "train":
            continue
        trained_on = spec["dataset"]["name"]
        other = {"generated-parts": "generated-boards", "generated-boards": "generated-parts"}[trained_on]
        check(other not in json.dumps(spec), f"the spec of training on {trained_on} names {other}")
        other_digest = json.loads((workspace / f"datasets/{other}.json").read_text())["digest"]
        check(other_digest not in json.dumps(spec), f"the spec of training on {trained_on} holds the digest of {other}")

        home = SCRATCH / f"alone-{trained_on}"
        shutil.rmtree(home, ignore_errors=True)
        alone = home / "demo/workspace"
        stage = alone / "stages" / key
        (stage / "attempts/1").mkdir(parents=True)
        (home / "demo/weights").symlink_to((HOME / "demo/weights").resolve())
        shutil.copy(workspace / "stages" / key / "spec.json", stage)
        needed = spec["inputs"]["features"]
        shutil.copytree(workspace / "features" / needed, alone / "features" / needed)
        shutil.copytree(workspace / "stages" / needed, alone / "stages" / needed)
        (alone / "datasets").mkdir()
        shutil.copy(workspace / f"datasets/{trained_on}.json", alone / "datasets")

        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        command = ["mpirun", "-np", "2", "--oversubscribe", WORKER, "train", "--workspace", "demo/workspace"]
        command += ["--stage", key, "--attempt", "1", "--threads", "1"]
        code = subprocess.run(command, cwd=home, env=environment, stdin=subprocess.DEVNULL, timeout=300).returncode
        check(code == 0, f"training on {trained_on} without {other} ended with {code}")
        result = stages(alone)[key][1]
        check(result is not None, f"training on {trained_on} left no result")
        params = pathlib.Path("stages", key, result["artifacts"]["checkpoint"], "params.safetensors")
        check(sha256(alone / params) == sha256(workspace / params), f"other parameters without {other}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
