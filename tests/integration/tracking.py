"""Trials of the demo in the tools that people use: `tracking.py NAME` runs the check of that name. TensorBoard's own reader, and a real
MLflow server with its own client, lie in an environment of their own (.deps/tracking-venv, made by tools/setup test)."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from demo import FILO, HOME, SOURCE, check, new_home
from skip import skip

PYTHON = SOURCE / ".deps/tracking-venv/bin/python"
EXPERIMENT = "demo-smallest"

# Run by PYTHON, whose packages this program does not have.
READ_TENSORBOARD = """
import json, pathlib, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
runs = {}
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    runs[folder.name] = {tag: [[event.step, event.value] for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
print(json.dumps(runs))
"""
READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name(sys.argv[2])
runs = {}
for run in client.search_runs([experiment.experiment_id]):
    assert run.info.run_name not in runs, "two runs " + run.info.run_name
    told = {name: [[point.step, point.value] for point in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics}
    runs[run.info.run_name] = {"metrics": told, "params": run.data.params, "status": run.info.status, "tags": run.data.tags,
                               "start": run.info.start_time, "end": run.info.end_time}
print(json.dumps(runs))
"""


def ask(program, *words):
    result = subprocess.run([PYTHON, "-c", program, *map(str, words)], capture_output=True, text=True, timeout=240)
    check(result.returncode == 0, result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def filo(home, *words, code=0, **environment):
    command = [FILO, *words, "--workspace", "demo/workspace"]
    result = subprocess.run(command, cwd=home, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    check(result.returncode == code, f"{' '.join(words)} ended with {result.returncode}: {result.stderr}{result.stdout}")
    return result


def told(workspace):
    """{run: {name: [(step, value)]}} by the workspace's own files: events of the trainings, results of the evaluations."""
    plan = json.loads((workspace / f"experiments/{EXPERIMENT}/plan.json").read_text())
    runs = {}
    for trial in plan["trials"]:
        train, evaluate = (workspace / "stages" / plan["stages"][position][0] for position in trial[3:5])
        run, last = runs.setdefault(trial[1], {}), 0
        for line in (train / "attempts/1/events.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["event"] not in ("step", "epoch"):
                continue
            last = event.get("step", last)
            where = event["phase"] + ("/epoch/" if event["event"] == "epoch" else "/")
            skipped = {"seq", "time", "event", "phase", "epoch", "epochs", "step", "epoch_step", "steps"}
            for name, value in event.items():
                parts = {f"{name}/{part}": number for part, number in value.items()} if isinstance(value, dict) else {name: value}
                for part, number in parts.items():
                    if name not in skipped and isinstance(number, (int, float)):
                        run.setdefault(where + part, []).append((last, number))
        metrics = json.loads((evaluate / "result.json").read_text())["metrics"]
        for name, value in metrics.items():
            if isinstance(value, float):
                run[f"test/{name}"] = [(last, value)]
        for name, numbers in metrics["classes"].items():
            of_types = {f"defects/{one}/{metric}": value for one, values in numbers["defects"].items() for metric, value in values.items()}
            for metric, value in {**numbers, **of_types}.items():
                if isinstance(value, float):
                    run[f"test/{name}/{metric}"] = [(last, value)]
    return runs


def compare(found, expected, tolerance):
    check(set(found) == set(expected), f"runs: {sorted(found)}, expected {sorted(expected)}")
    points = 0
    for run, series in expected.items():
        others = {name for name in found[run] if name not in series and not name.startswith("test/untrained/")}
        check(not others and set(series) <= set(found[run]), f"{run}: {sorted(found[run])}, expected {sorted(series)}")
        for name, values in series.items():
            got = found[run][name]
            check([step for step, _ in got] == [step for step, _ in values], f"{run} {name}: steps {got}, expected {values}")
            for (_, mine), (_, theirs) in zip(values, got):
                check(abs(mine - theirs) <= tolerance * max(1, abs(mine)), f"{run} {name}: {theirs}, expected {mine}")
            points += len(values)
    print(f"{len(expected)} runs, {points} points are equal")


def need_clients():
    if not PYTHON.exists():
        skip(f"{PYTHON} is not here, with the real TensorBoard and MLflow: tools/setup test makes it")


def finished_home(name):
    """A home whose workspace has all that the demo left."""
    home = new_home(name)
    shutil.copytree(HOME / "demo/workspace", home / "demo/workspace", dirs_exist_ok=True)
    return home


def tensorboard_reads_what_the_stages_told():
    """Guards the event files: TensorBoard's own reader finds every number of events.jsonl and result.json, and a repeat adds none."""
    need_clients()
    home = finished_home("tensorboard-home")
    workspace = home / "demo/workspace"
    folder = workspace / f"experiments/{EXPERIMENT}/tensorboard"
    for _ in range(2):
        filo(home, "track", EXPERIMENT, "--tensorboard")
        compare(ask(READ_TENSORBOARD, folder), told(workspace), 1e-6)  # 32 bits
    a_step_that_is_told_again_counts_as_told_last(home, workspace, folder)


def a_step_that_is_told_again_counts_as_told_last(home, workspace, folder):
    """As after a node was lost: the next attempt goes on from step 2."""
    plan = json.loads((workspace / f"experiments/{EXPERIMENT}/plan.json").read_text())
    run, train = plan["trials"][0][1], workspace / "stages" / plan["stages"][plan["trials"][0][3]][0]
    again = [{"event": "resumed", "step": 2}] + [{"event": "step", "phase": "main", "step": step, "loss": step / 8} for step in (3, 4)]
    (train / "attempts/2").mkdir()
    lines = [json.dumps({**event, "seq": at, "time": time.time()}) + "\n" for at, event in enumerate(again)]
    (train / "attempts/2/events.jsonl").write_text("".join(lines))
    before = ask(READ_TENSORBOARD, folder)[run]["main/loss"]
    filo(home, "track", EXPERIMENT, "--tensorboard")
    after = ask(READ_TENSORBOARD, folder)[run]["main/loss"]
    check(after == before[:2] + [[3, 0.375], [4, 0.5]], f"main/loss {after}, after {before}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class MlflowServer:
    """The real one, with its own database, in `folder`."""

    def __init__(self, folder, port):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = open(folder / "log.txt", "a")
        command = [PYTHON, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                check(self.process.poll() is None, f"mlflow server ended: {(folder / 'log.txt').read_text()}")
                check(time.monotonic() < deadline, "mlflow server does not listen after 180 s")
                time.sleep(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, 15)
        self.process.wait(30)
        self.log.close()


def run_tracked(home, uri, name):
    """`filo run` of the demo, told to the MLflow experiment `name` and to TensorBoard as it goes."""
    text = (SOURCE / f"configs/experiments/{EXPERIMENT}.yaml").read_text()
    (home / "tracked.yaml").write_text(f"{text}\ntracking: {{tensorboard: true, mlflow: {{uri: {uri}, experiment: {name}}}}}\n")
    return filo(home, "run", "tracked.yaml", MLFLOW_TRACKING_TOKEN="a-secret-token").stderr


def forget_trials(workspace):
    """Features stay: only trainings and evaluations run again."""
    for folder in (workspace / "stages").iterdir():
        if json.loads((folder / "spec.json").read_text())["kind"] in ("train", "evaluate"):
            shutil.rmtree(folder)


def mlflow_has_the_trials_after_the_fact_and_live():
    """Guards the REST calls against the real server: what a finished experiment told, what a running one tells, and what could not be told
    while the server was away."""
    need_clients()
    home, port = finished_home("mlflow-home"), free_port()
    workspace, uri = home / "demo/workspace", f"http://127.0.0.1:{port}"
    away = filo(home, "track", EXPERIMENT, "--mlflow", uri, code=1).stderr
    check("Connection refused" in away, f"nothing says why there is no MLflow: {away}")

    def metrics_in(name):
        return {run: found["metrics"] for run, found in ask(READ_MLFLOW, uri, name).items()}

    with MlflowServer(home / "mlflow", port):
        for _ in range(2):
            filo(home, "track", EXPERIMENT, "--mlflow", uri)
        compare(metrics_in(EXPERIMENT), told(workspace), 1e-12)
        for name, run in ask(READ_MLFLOW, uri, EXPERIMENT).items():
            check(run["status"] == "FINISHED" and run["end"] >= run["start"], f"{name}: {run['status']}")
            check(run["params"]["fold"] == name and "train.main.learning_rate.prompts" in run["params"], f"params: {run['params']}")
            check(run["tags"]["filo.experiment"] == EXPERIMENT and run["tags"]["filo.attempt"] == "1", f"tags: {run['tags']}")
        forget_trials(workspace)
        run_tracked(home, uri, "live")
        compare(metrics_in("live"), told(workspace), 1e-12)
    log = run_tracked(home, uri, "late")  # the run goes on all the same
    check(log.count("Connection refused") == 1, f"not told once: {log}")
    with MlflowServer(home / "mlflow", port):
        filo(home, "track", EXPERIMENT)
        compare(metrics_in("late"), told(workspace), 1e-12)
    compare(ask(READ_TENSORBOARD, workspace / f"experiments/{EXPERIMENT}/tensorboard"), told(workspace), 1e-6)
    for path in workspace.rglob("*"):
        check(not path.is_file() or b"a-secret-token" not in path.read_bytes(), f"the token stands in {path}")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
