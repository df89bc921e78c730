"""As chaos.py, on a Slurm cluster of virtual nodes: `slurm_chaos.py --kills N --seed S`. `filo submit` and `filo reconcile`
are killed at random moments and at every failpoint, those between sbatch, its record and the release included; jobs are
requeued from outside, stages cancelled and retried now and then. Exit 0 = all held, 77 = no Slurm here.

`--lag S`: the nodes and two login nodes see each other's files S seconds late (lag.cpp). `--clocks S`: the login nodes'
clocks are S seconds ahead of and behind the file server's."""

import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

SOURCE = pathlib.Path(os.environ["FILO_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tests/slurm"))
sys.path.insert(0, str(SOURCE / "tests/chaos"))
from chaos import FILO, WORKER, Place, all_failpoints, arguments_of, check, disturb
from cluster import Failure
from lab import running_cluster, skip_where_slurm_is_missing

PASSES = ["submitted", "recorded", "released", "attempt made", "claimed", "started", "end recorded", "stop asked"]
POINTS = [*PASSES, "request written"]


class SlurmPlace(Place):
    def __init__(self, cluster, folder, seeds, lag=0, clocks=0, chance=None):
        super().__init__(folder, seeds, lag, clocks, chance)
        path = self.environment["PATH"]
        self.environment = cluster.environment(
            FILO_INDEX=str(folder / "index.sqlite"), PATH=f"{folder / 'bin'}:{cluster.environment().get('PATH', path)}"
        )
        self.cluster = folder / "cluster.yaml"
        self.cluster.write_text(
            f"name: chaos\nworker: {WORKER}\nlauncher: {{program: mpirun}}\nmemory: none\nwatch: {{enabled: false}}\n"
            "command_timeout_s: 10\nmessage_timeout_s: 2\n"
            f"result_grace_s: {lag + 10}\n"
            f"environment: {json.dumps({'PATH': self.environment['PATH'], 'CHAOS_VIOLATIONS': str(self.violations), **self.lagging('node')})}\n"
        )

    def states(self):
        result = subprocess.run(
            [FILO, "status", "chaos", "--json", "--workspace", str(self.workspace)],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        check(result.returncode == 0, f"filo status: {result.stderr}")
        return json.loads(result.stdout)[0]["counts"]


    def cancel_one(self, chance):
        """Of the stages that a job may run just now."""
        begun = [s for s in self.stages() if list(self.attempts(s)) and not self.is_over(s)]
        if begun:
            self.run("cancel", chance.choice(begun))

    def retry_cancelled(self):
        for stage in self.stages():
            if (self.workspace / "stages" / stage / "request.json").exists():
                self.run("retry", stage)

    def attempts(self, stage):
        return (self.workspace / "stages" / stage).glob("attempts/*")

    def is_over(self, stage):
        folder = self.workspace / "stages" / stage
        return (folder / "result.json").exists() or all((attempt / "end.json").exists() for attempt in self.attempts(stage))


def one_round(cluster, place, chance, passed, kills_left, table):
    folder = place.folder
    submitted = False
    deadline = time.monotonic() + 400 + 20 * place.lag
    while True:
        check(time.monotonic() < deadline, f"no end in sight in {folder}")
        calm = place.kills >= kills_left and set(POINTS) <= set(passed)
        failpoint = ""
        if not calm and chance.random() < 0.4:
            failpoint = chance.choice([point for point in PASSES if point not in passed] or PASSES)
        if failpoint == "stop asked" and submitted:
            place.cancel_one(chance)
        command = ["reconcile"] if submitted else ["submit", str(place.experiment), "--cluster", str(place.cluster)]
        process = place.start(*command, failpoint=failpoint)
        try:
            error = process.communicate(timeout=30 if failpoint or calm else chance.uniform(0.005, 0.1))[1]
        except subprocess.TimeoutExpired:
            process.kill()
            error = process.communicate()[1]
        if process.returncode == -signal.SIGKILL:
            place.kills += 1
            passed[failpoint or "random moments"] += 1
        else:
            check(process.returncode == 0, f"filo {command[0]} ended with {process.returncode}: {error}")
            submitted = True
        if not submitted and (place.workspace / "experiments/chaos/active.json").exists():
            submitted = True
        if submitted and failpoint == "stop asked":
            place.retry_cancelled()
        if submitted and not calm and ("request written" not in passed or chance.random() < 0.05):
            passed.update(disturb(place, chance, to_the_death=True))
        if submitted and set(place.states()) == {"done"}:
            break
        if chance.random() < 0.05:
            requeue_one(cluster, chance)
        time.sleep(0.1)
    place.check_outcome(table)
    return place.kills


def requeue_one(cluster, chance):
    """What preemption does to a job; one that has just ended cannot be requeued any more."""
    jobs = cluster.call("squeue", "-h", "-r", "-t", "running", "-o", "%i").split()
    if jobs:
        with contextlib.suppress(Failure):
            cluster.call("scontrol", "requeue", chance.choice(jobs))


def main():
    arguments = arguments_of(kills=60, seeds=2)
    skip_where_slurm_is_missing()
    check(set(POINTS) == set(all_failpoints()), f"failpoints that are not gone through: {set(POINTS) ^ set(all_failpoints())}")
    chance = random.Random(arguments.seed)
    begun = time.monotonic()
    with running_cluster("chaos") as cluster:
        undisturbed = Place(cluster.folder / "undisturbed", arguments.seeds)
        undisturbed.run("run", str(undisturbed.experiment))  # on this machine: tables must not depend on where
        table = undisturbed.table()
        stages = len(undisturbed.stages())
        kills = rounds = 0
        passed = collections.Counter()
        while kills < arguments.kills or not set(POINTS) <= set(passed):
            folder = cluster.folder / f"r{rounds}"
            place = SlurmPlace(cluster, folder, arguments.seeds, arguments.lag, arguments.clocks, chance)
            kills += one_round(cluster, place, chance, passed, arguments.kills - kills, table)
            rounds += 1
            print(f"round {rounds}: {kills} kills so far, at {dict(sorted(passed.items()))}", flush=True)
    print(
        f"{kills} kills ({passed['random moments']} at random moments) in {rounds} rounds of {stages} stages on Slurm, {time.monotonic() - begun:.0f} s: each stage was "
        "done once, none was lost, and every table is that of an undisturbed local run"
    )


if __name__ == "__main__":
    main()
