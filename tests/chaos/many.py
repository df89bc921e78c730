"""Many experiments in one workspace: `many.py --experiments N --processes N --seed S`.

Processes hand experiments of 50 stages each to one cluster at once, and cancel, retry and reconcile at random. The cluster
is made up (its jobs run until they are cancelled), so that every scancel can be held against what was asked for: no job of
an experiment that nobody cancelled may be touched, and no stage may have two jobs. Exit 0 = all held."""

import argparse
import json
import multiprocessing
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import made_up_slurm
from chaos import FILO, Place, check


class Cluster:
    def __init__(self, home, experiments):
        self.place = Place(home, seeds=1)
        self.bin = home / "slurm"
        made_up_slurm.install(self.bin)
        self.settings = home / "cluster.yaml"
        self.settings.write_text(f"name: many\nslurm_bin: {self.bin}\nworker: {self.place.environment['FILO_WORKER']}\nmax_submit: 100000\nwatch: {{enabled: false}}\n")
        self.place.run("run", str(self.place.experiment))  # the features, which all share
        text = self.place.experiment.read_text()
        self.files = {}
        for number in range(experiments):
            name = f"e{number}"
            lines = [line for line in text.splitlines() if not line.startswith(("name:", "seeds:", "folds:", "axes:", "tables:"))]
            seeds = list(range(1000 + 24 * number, 1024 + 24 * number))
            self.files[name] = home / f"{name}.yaml"
            self.files[name].write_text("\n".join([f"name: {name}", *lines, "folds: [{train: a, test: b}]", f"seeds: {seeds}", ""]))

    def owners(self):
        """Which experiments need a stage."""
        owners = {}
        for name in self.files:
            for row in json.loads((self.place.workspace / "experiments" / name / "plan.json").read_text())["stages"]:
                owners.setdefault(row[0], set()).add(name)
        return owners


def stage_of(label, batches):
    job, _, index = label.partition("_")
    return batches[int(job)][int(index or 0)]


def filo(place, *arguments):
    done = subprocess.run([FILO, *map(str, arguments), "--workspace", place.workspace], env=dict(place.environment, FILO_INDEX="none"), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stderr


def work(cluster, names, seed, cancelled, problems):
    """One user: hands over, cancels and retries."""
    chance = random.Random(seed)
    waiting, handed = list(names), []
    for _ in range(3 * len(names)):
        if waiting and (not handed or chance.random() < 0.6):
            name = waiting.pop()
            code, error = filo(cluster.place, "submit", cluster.files[name], "--cluster", cluster.settings)
            handed.append(name)
            if code != 0:
                problems.append(f"submit {name}: {error}")
        else:
            name = chance.choice(handed)
            command = chance.choice(["cancel", "cancel", "retry", "reconcile"])
            if command == "cancel":
                cancelled[name] = True
            code, error = filo(cluster.place, *([command] if command == "reconcile" else [command, name]))
            if code not in (0, 1):
                problems.append(f"{command} {name}: {code} {error}")
    for name in waiting:
        code, error = filo(cluster.place, "submit", cluster.files[name], "--cluster", cluster.settings)
        if code != 0:
            problems.append(f"submit {name}: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=100)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="filo-many-"))
    begun = time.monotonic()
    try:
        cluster = Cluster(home / "place", options.experiments)
        manager = multiprocessing.Manager()
        cancelled, problems = manager.dict(), manager.list()
        names = list(cluster.files)
        users = [multiprocessing.Process(target=work, args=(cluster, names[n :: options.processes], options.seed * 1000 + n, cancelled, problems)) for n in range(options.processes)]
        for user in users:
            user.start()
        for user in users:
            user.join()
        filo(cluster.place, "reconcile")
        check(not problems, "; ".join(problems)[:2000])
        owners = cluster.owners()
        batches = {}
        for record in (cluster.place.workspace / "slurm/batches").glob("*.json"):
            batch = json.loads(record.read_text())
            batches[batch["job_id"]] = [entry["stage"] for entry in batch["entries"]]
        touched = set((cluster.bin / "cancelled").read_text().split())
        for label in touched:
            if int(label.partition("_")[0]) in batches:  # the records of what has ended are gone
                stage = stage_of(label, batches)
                check(any(name in cancelled for name in owners[stage]), f"job {label} of {owners[stage]} was cancelled, which nobody asked for")
        rows = [line.split("|") for line in (cluster.bin / "queue").read_text().splitlines()]
        running = [stage_of(row[0] + ("" if row[1] == "N/A" else "_" + row[1]), batches) for row in rows if row[2] == "RUNNING"]
        check(len(running) == len(set(running)), "a stage has two jobs")
        untouched = [name for name in names if name not in cancelled]
        for name in untouched:
            trains = [stage for stage, needed in owners.items() if needed == {name}]
            check(sum(stage in set(running) for stage in trains) == 24, f"{name}, which nobody cancelled, has not all of its trainings running")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(f"{options.experiments} experiments of 50 stages by {options.processes} processes, seed {options.seed}, {time.monotonic() - begun:.0f} s: {len(rows)} jobs, {len(touched)} cancelled, "
          f"all of them of the {len(cancelled)} experiments that were cancelled; the other {len(untouched)} have all of their trainings running, each once")


if __name__ == "__main__":
    main()
