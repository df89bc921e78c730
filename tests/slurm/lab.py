"""What the tests on the cluster share: a cluster, a workspace whose experiment needs no real data, `filo` and its answers."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parent.parent)]
from cluster import Cluster, Failure, missing_programs
from skip import skip

SOURCE = pathlib.Path(os.environ["FILO_SOURCE_DIR"])
FILO = os.environ["FILO"]


def skip_where_slurm_is_missing(accounting=False):
    """Exit 77 with the reason, unless nothing may be skipped (.ci/run)."""
    absent = missing_programs(accounting)
    if absent:
        skip(f"Slurm is not installed here ({' '.join(absent)} missing): tools/setup test installs it")


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.2)


@contextlib.contextmanager
def running_cluster(name, **options):
    """In a short folder: Slurm's sockets leave little room for a path."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"filo-{name}-", dir="/tmp"))
    folder.chmod(0o755)  # munged wants its socket within reach of all
    cluster = Cluster(folder)
    try:
        cluster.start(**options)
        yield cluster
    finally:
        cluster.stop()
        if os.environ.get("FILO_KEEP"):
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


class Lab:
    """One workspace on a cluster. The stages are those of an experiment over `trainings` seeds; their worker is fake-worker."""

    def __init__(self, cluster, name, trainings=2, time_limit="00:05:00", settings=""):
        self.cluster = cluster
        self.name = name
        self.folder = cluster.folder / name
        self.workspace = self.folder / "workspace"
        (self.workspace / "fake").mkdir(parents=True)
        self.write("clip/config.json", '{"vision_config": {"patch_size": 14, "num_hidden_layers": 24}}')
        for file in ("clip/model.safetensors", "clip/vocab.json", "clip/merges.txt"):
            self.write(file, "{}")
        for dataset, digest, thing in (("parts", "a" * 16, "bolt"), ("boards", "b" * 16, "board")):
            classes = {thing: {"train": 1, "test": 2, "anomalous": 1}}
            record = {"name": dataset, "digest": digest, "classes": classes}
            self.write(f"workspace/datasets/{dataset}.json", json.dumps(record))
        self.experiment = self.write(
            "experiment.yaml",
            f"""name: {name}
data: {{a: parts, b: boards}}
folds: [{{train: a, test: b}}]
model: {{clip: {self.folder}/clip, image_size: 112, prompts: {{descriptions: none}}}}
resources: {{ranks: 2, threads: 1, memory: 100M, time: "{time_limit}"}}
seeds: {list(range(trainings))}
tables: [{{title: T, rows: fold, columns: "", metrics: [image_auroc]}}]
""",
        )
        self.settings = self.write(
            "cluster.yaml",
            f"""name: lab
worker: {SOURCE}/tests/slurm/fake-worker
launcher: {{program: mpirun, arguments: ["--oversubscribe"]}}
memory: none
command_timeout_s: 10
watch: {{enabled: false}}
{settings}""",
        )

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def fake(self, kind, **variables):
        """How the fake worker does this kind of stage."""
        self.write(f"workspace/fake/{kind}", "".join(f"{name}={value}\n" for name, value in variables.items()))

    def filo(self, *arguments, code=0, **environment):
        result = subprocess.run(
            [FILO, *map(str, arguments), "--workspace", str(self.workspace)],
            env=self.cluster.environment(**environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if code is not None and result.returncode != code:
            raise AssertionError(
                f"filo {' '.join(map(str, arguments))} ended with {result.returncode}, {code} expected:\n"
                f"{result.stdout}{result.stderr}"
            )
        return result

    def submit(self, *options, code=0):
        return self.filo("submit", self.experiment, "--cluster", self.settings, *options, code=code)

    def reconcile(self, code=0, **environment):
        return self.filo("reconcile", code=code, **environment)

    def status(self):
        """{label: stage} of the experiment."""
        answer = json.loads(self.filo("status", self.name, "--json").stdout)
        return {stage["label"] + "#" + stage["key"]: stage for stage in answer[0]["stages"]}

    def states(self):
        states = {}
        for stage in self.status().values():
            states[stage["state"]] = states.get(stage["state"], 0) + 1
        return states

    def stages(self, kind):
        return [stage for stage in self.status().values() if stage["kind"] == kind]

    def until(self, condition, seconds, what):
        """Reconciles until the condition holds."""

        def step():
            self.reconcile()
            return condition()

        return wait_for(step, seconds, f"{self.name}: {what}")

    def until_done(self, seconds=60):
        self.until(lambda: set(self.states()) == {"done"}, seconds, f"every stage done ({self.states()})")

    def running(self, kind):
        """The running stages of this kind that have begun to work."""
        return [s for s in self.stages(kind) if self.log(s["key"], s["attempt"]).find("fake ") >= 0 and s["state"] == "running"]

    def attempt_folder(self, key, attempt):
        return self.workspace / "stages" / key / "attempts" / str(attempt)

    def log(self, key, attempt):
        path = self.attempt_folder(key, attempt) / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self, key, attempt):
        path = self.attempt_folder(key, attempt) / "end.json"
        return json.loads(path.read_text()) if path.exists() else None

    def committed(self):
        """[(stage, attempt, start)] in the order of their results."""
        path = self.workspace / "fake/committed"
        return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []

    def check_once_each(self):
        keys = [stage["key"] for stage in self.status().values()]
        committed = sorted(entry[0] for entry in self.committed())
        assert committed == sorted(keys), f"stages {sorted(keys)}, ran to completion: {committed}"

    def queue(self):
        """[(job, state, name)] of this workspace's jobs, array tasks one by one."""
        text = self.cluster.call("squeue", "-h", "-r", "-t", "all", "-O", "ArrayJobID:|,ArrayTaskID:|,StateCompact:|,Name:|,Comment:200")
        rows = []
        for line in text.splitlines():
            array, index, state, name, comment = line.strip().split("|", 4)
            if str(self.workspace) in comment:
                rows.append((f"{array}_{index}" if index != "N/A" else array, state, name))
        return rows
