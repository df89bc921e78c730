"""kill -9 of the coordinator, at seeded random moments and at every failpoint: `chaos.py --kills N --seed S`.

Rounds of one grid each, in workspaces of their own: `filo run` is killed again and again until it ends by itself, while
stages are cancelled and retried now and then. Then every stage must be done, none of them may have run twice at once,
after it was done or before what it needs (worker.sh tells), and the tables must be those of a run that nobody disturbed.
Exit 0 = all held.

`--lag S`: every command is on one of two hosts, by chance, which see each other's files S seconds late (lag.cpp); what a
killed one ran the other takes over at once, since they have their processes in common. `--clocks S`: these hosts' clocks
are S seconds ahead of and behind the file server's."""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ["FILO_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tests"))
from skip import skip

FILO = os.environ["FILO"]
WORKER = SOURCE / "tests/chaos/worker.sh"
FAKETIME = f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1"
# Those that a local run passes; the others are Slurm's.
LOCAL = ["attempt made", "claimed", "started", "end recorded", "stop asked", "request written"]


def check(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")


def all_failpoints():
    text = (SOURCE / "base/failpoints.hpp").read_text()
    return re.findall(r'^    "([a-z ]+)",', text, re.MULTILINE)


class Place:
    """A workspace with two data sets and weights in name only, and an experiment over them. With a `chance`, each command
    is on one of two hosts: they see each other's files `lag` seconds late, and their clocks are `clocks` seconds off."""

    def __init__(self, folder, seeds, lag=0, clocks=0, chance=None):
        self.folder = folder
        self.lag, self.clocks, self.chance = lag, clocks, chance
        self.workspace = folder / "workspace"
        self.violations = folder / "violations"
        self.kills = 0
        bin_folder = folder / "bin"
        bin_folder.mkdir(parents=True)
        for name in ("mpirun", "filo-worker"):
            (bin_folder / name).symlink_to(WORKER)
        self.environment = dict(
            os.environ,
            PATH=f"{bin_folder}:{os.environ['PATH']}",
            FILO_WORKER=str(bin_folder / "filo-worker"),
            FILO_INDEX=str(folder / "index.sqlite"),
            CHAOS_VIOLATIONS=str(self.violations),
        )
        clip = folder / "clip"
        clip.mkdir()
        (clip / "config.json").write_text('{"vision_config": {"patch_size": 14, "num_hidden_layers": 24}}')
        for name in ("model.safetensors", "vocab.json", "merges.txt"):
            (clip / name).write_text("{}")
        (self.workspace / "datasets").mkdir(parents=True)
        for name in ("parts", "boards"):
            (self.workspace / "datasets" / f"{name}.json").write_text(
                json.dumps({"name": name, "digest": name[0] * 16, "classes": {"bolt": {"train": 1, "test": 2}}})
            )
        self.experiment = folder / "chaos.yaml"
        self.experiment.write_text(
            "name: chaos\ndata: {a: parts, b: boards}\n"
            "folds: [{train: a, test: b}, {train: b, test: a}]\n"
            f"model: {{clip: {clip}, image_size: 112, prompts: {{descriptions: none}}}}\n"
            "resources: {ranks: 1, memory: 1M}\n"
            f"seeds: {list(range(seeds))}\n"
            "axes: {evaluate.gaussian_sigma: [2, 4]}\n"
            "tables: [{title: Chaos, rows: evaluate.gaussian_sigma, columns: fold, metrics: [image_auroc, pixel_auroc]}]\n"
        )

    def start(self, *arguments, failpoint=""):
        return subprocess.Popen(
            [FILO, *arguments, "--workspace", str(self.workspace)],
            env=dict(self.environment, **self.host(), FILO_FAILPOINT=failpoint),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lagging(self, host):
        """What has a process see the workspace as `host` does."""
        if not self.lag:
            return {}
        return {"LD_PRELOAD": os.environ["FILO_LAG"], "LAG_ROOT": str(self.workspace), "LAG_HOST": str(self.folder / f"host-{host}"), "LAG_S": str(self.lag)}

    def host(self):
        """What the environment of the next command's host is like."""
        number = self.chance.randrange(2) if self.chance else 0
        environment = self.lagging(f"login{number}")
        if self.clocks:
            preload = [*filter(None, [environment.get("LD_PRELOAD")]), FAKETIME]
            environment |= {"LD_PRELOAD": ":".join(preload), "FAKETIME": f"{'+-'[number]}{self.clocks}s", "NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return environment

    def run(self, *arguments, failpoint=""):
        process = self.start(*arguments, failpoint=failpoint)
        error = process.communicate()[1]
        if process.returncode == -signal.SIGKILL:
            self.kills += 1
        else:
            check(process.returncode == 0, f"filo {' '.join(arguments)} ended with {process.returncode}: {error}")
        return process.returncode

    def stages(self):
        return sorted(folder.name for folder in (self.workspace / "stages").iterdir())

    def table(self):
        result = subprocess.run(
            [FILO, "report", "chaos", "--format", "csv", "--workspace", str(self.workspace)],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        check(result.returncode == 0, f"filo report: {result.stderr}")
        return result.stdout

    def check_outcome(self, table):
        violations = self.violations.read_text() if self.violations.exists() else ""
        check(violations == "", f"in {self.folder}:\n{violations}")
        for stage in self.stages():
            check((self.workspace / "stages" / stage / "result.json").exists(), f"stage {stage} was lost")
        check(self.table() == table, f"other tables than an undisturbed run:\n{self.table()}\n{table}")


def disturb(place, chance, to_the_death):
    """Cancels a stage that is not done and has it tried again; both may be killed at their failpoint."""
    open_stages = [s for s in place.stages() if not (place.workspace / "stages" / s / "result.json").exists()]
    if not open_stages:
        return set()
    stage = chance.choice(open_stages)
    killed = place.run("cancel", stage, failpoint="request written" if to_the_death else "") != 0
    time.sleep(chance.uniform(0, 0.1))
    place.run("retry", stage)
    return {"request written"} if killed else set()


def one_round(place, chance, passed, kills_left, table):
    """Kills a run until it ends by itself. `passed`: failpoints that it died at before; the others come first."""
    failpoints = [name for name in LOCAL if name not in passed and name != "request written"]
    chance.shuffle(failpoints)
    deadline = time.monotonic() + 600 + 20 * place.lag
    while True:
        check(time.monotonic() < deadline, f"no end in sight in {place.folder}")
        failpoint = failpoints.pop() if failpoints else ""
        at = 1 if failpoint == "stop asked" else chance.randint(1, 4)
        process = place.start("run", str(place.experiment), failpoint=failpoint and f"{failpoint}:{at}")
        quiet = place.kills >= kills_left and passed == set(LOCAL)
        if failpoint == "stop asked":  # it takes a request for a stage that runs
            for _ in range(100):
                time.sleep(0.02)
                if process.poll() is not None:
                    break
                running = [s for s in place.stages() if is_running(place, s)] if (place.workspace / "stages").exists() else []
                if running:
                    place.run("cancel", chance.choice(running))
        limit = 60 + 2 * place.lag if quiet or failpoint else chance.uniform(0.02, 0.6)
        try:
            error = process.communicate(timeout=limit)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            error = process.communicate()[1]
        if (place.workspace / "stages").exists() and failpoint == "stop asked":
            for stage in place.stages():
                if (place.workspace / "stages" / stage / "request.json").exists():
                    place.run("retry", stage)
        if process.returncode == -signal.SIGKILL:
            place.kills += 1
            if failpoint:
                passed.add(failpoint)
            due = "request written" not in passed
            if (due or chance.random() < 0.15) and (place.workspace / "stages").exists():
                passed |= disturb(place, chance, due or chance.random() < 0.5)
            continue
        if process.returncode == 0 and not failpoint:
            break
        # A stage whose cancellation came too late for the failpoint leaves the run unfinished.
        check(process.returncode == 0 or failpoint == "stop asked", f"filo run ended with {process.returncode}: {error}")
    place.check_outcome(table)
    return place.kills


def is_running(place, stage):
    """Whether its worker lives: it holds a lock as long (looked up, not tried: that would be in its way)."""
    file = place.workspace / "stages" / stage / ".running"
    if not file.exists():
        return False
    locks = pathlib.Path("/proc/locks").read_text()
    return re.search(rf"FLOCK .*:{file.stat().st_ino} ", locks) is not None


def arguments_of(kills, seeds):
    """The command line of a run; by default so many kills, of a grid of so many seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=seeds, help="of the grid: 2 + 6 per seed stages")
    parser.add_argument("--lag", type=int, default=0, help="seconds after which a host sees what another wrote")
    parser.add_argument("--clocks", type=int, default=0, help="seconds that two hosts' clocks are off, one each way")
    arguments = parser.parse_args()
    if arguments.clocks and not os.path.exists(FAKETIME):
        skip(f"there is no {FAKETIME} here: tools/setup test installs libfaketime")
    return arguments


def main():
    arguments = arguments_of(kills=500, seeds=6)
    chance = random.Random(arguments.seed)
    begun = time.monotonic()
    home = pathlib.Path(tempfile.mkdtemp(prefix="filo-chaos-"))
    undisturbed = Place(home / "undisturbed", arguments.seeds)
    undisturbed.run("run", str(undisturbed.experiment))
    table = undisturbed.table()
    undisturbed.check_outcome(table)
    check("image AUROC" in table and "nan" not in table, f"no table: {table}")
    stages = len(undisturbed.stages())

    unknown = set(LOCAL) - set(all_failpoints())
    check(not unknown, f"failpoints that are no more: {unknown}")
    kills = rounds = 0
    passed = set()
    while kills < arguments.kills or passed != set(LOCAL):
        place = Place(home / f"round-{rounds}", arguments.seeds, arguments.lag, arguments.clocks, chance)
        kills += one_round(place, chance, passed, arguments.kills - kills, table)
        rounds += 1
        shutil.rmtree(home / f"round-{rounds - 1}")
        print(f"round {rounds}: {kills} kills so far, failpoints {sorted(passed)}", flush=True)
    shutil.rmtree(home)
    print(
        f"{kills} kills in {rounds} rounds of {stages} stages, {time.monotonic() - begun:.0f} s: each stage was done once, "
        "none was lost, and every table is that of an undisturbed run"
    )


if __name__ == "__main__":
    main()
