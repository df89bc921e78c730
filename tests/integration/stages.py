"""One stage at a time under mpirun, where something goes wrong: `stages.py NAME` runs the check of that name. They start from what the
demo left (FILO_SCRATCH/demo-home), in folders of their own, and compare with the run that nobody disturbed."""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path[:0] = [str(pathlib.Path(__file__).parent)]
from demo import HOME, SCRATCH, WORKER, check, sha256, stages

UNDISTURBED = HOME / "demo/workspace"


class Lab:
    """A stage and what it needs, in a workspace that has nothing else: the first of its kind, unless `key` says which."""

    def __init__(self, name, kind, key=None):
        self.kind = kind
        self.home = SCRATCH / f"stages-{name}"
        shutil.rmtree(self.home, ignore_errors=True)
        self.workspace = self.home / "demo/workspace"
        self.workspace.mkdir(parents=True)
        for link in ("configs", "demo/weights", "demo/data"):
            (self.home / link).symlink_to((HOME / link).resolve())
        shutil.copytree(UNDISTURBED / "datasets", self.workspace / "datasets")
        self.key, (self.spec, self.undisturbed) = next(item for item in stages(UNDISTURBED).items() if item[1][0]["kind"] == kind and key in (None, item[0]))
        for needed in self.spec["inputs"].values():
            shutil.copytree(UNDISTURBED / "stages" / needed, self.workspace / "stages" / needed)
            if (UNDISTURBED / "features" / needed).exists():
                (self.workspace / "features").mkdir(exist_ok=True)
                (self.workspace / "features" / needed).symlink_to((UNDISTURBED / "features" / needed).resolve())
        self.stage = self.workspace / "stages" / self.key
        self.stage.mkdir(parents=True)
        self.write_spec(self.spec)
        self.attempt = 0

    def write_spec(self, spec):
        (self.stage / "spec.json").write_text(json.dumps(spec))

    def copy_of_workspace(self):
        """As another host's cache shows it, by now."""
        other = self.home / "other"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.workspace, other, symlinks=True)
        return other

    def command(self, workspace):
        return [WORKER, self.kind, "--workspace", str(workspace), "--stage", self.key, "--attempt", str(self.attempt), "--threads", "1"]

    def start(self, ranks=2, workspaces=None, options=()):
        """The next attempt. `workspaces`: what each rank sees; `options`: further ones of the worker."""
        self.attempt += 1
        workspaces = workspaces or [self.workspace] * ranks
        for workspace in {*workspaces, self.workspace}:
            (workspace / "stages" / self.key / "attempts" / str(self.attempt)).mkdir(parents=True, exist_ok=True)
        command = ["mpirun", "--oversubscribe"]
        for i, workspace in enumerate(workspaces):
            command += [":"] * (i > 0) + ["-np", "1", *self.command(workspace), *options]
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        self.log = self.home / f"log-{self.attempt}.txt"
        return subprocess.Popen(command, cwd=self.home, env=environment, stdin=subprocess.DEVNULL, stdout=open(self.log, "w"), stderr=subprocess.STDOUT)

    def finish(self, process, code=0):
        try:
            found = process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            found = "no end within two minutes"
        check(found == code, f"attempt {self.attempt} of {self.kind} came to {found}, expected {code}:\n{self.log.read_text()}")
        return self.log.read_text()

    def run(self, code=0, **options):
        return self.finish(self.start(**options), code)

    def events(self, kind, attempt=None):
        path = self.stage / "attempts" / str(attempt or self.attempt) / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def wait_for(self, kind, number, process):
        """Until the attempt has told of so many events of the kind."""
        deadline = time.monotonic() + 60
        while len(self.events(kind)) < number:
            check(time.monotonic() < deadline and process.poll() is None, f"no {number} events of {kind}:\n{self.log.read_text()}")
            time.sleep(0.002)

    def wait_for_heartbeat(self, rank, process):
        """Until the rank has said where it is."""
        while not list(self.stage.glob(f"attempts/{self.attempt}/starts/*/heartbeat-{rank}.json")):
            check(process.poll() is None, f"it ended before rank {rank} was heard of:\n{self.log.read_text()}")
            time.sleep(0.002)

    def ranks(self, process):
        """Process ids of the workers, by rank."""
        found = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) != process.pid:
                    continue
                variables = (entry / "environ").read_bytes().split(b"\0")
                rank = next(v for v in variables if v.startswith(b"OMPI_COMM_WORLD_RANK="))
                found[int(rank.split(b"=")[1])] = int(entry.name)
            except (OSError, StopIteration, IndexError):
                continue
        return found

    def stop_rank(self, process, rank):
        """Asks one rank alone to stop."""
        os.kill(self.ranks(process)[rank], signal.SIGUSR2)

    def snapshots(self):
        return sorted(self.stage.glob("snapshots/step-*"))

    def check_same_checkpoint(self):
        params = "checkpoint/params.safetensors"
        check(sha256(self.stage / params) == sha256(UNDISTURBED / "stages" / self.key / params), "other parameters than undisturbed")

    def epochs(self):
        """{(phase, epoch): loss} as the last told, over all attempts."""
        return {(event["phase"], event["epoch"]): event["loss"] for a in range(1, self.attempt + 1) for event in self.events("epoch", a)}


    def check_same_result(self):
        """As the run that nobody disturbed."""
        if self.kind == "train":
            self.check_same_checkpoint()
        else:
            result = json.loads((self.stage / "result.json").read_text())
            check(result["metrics"] == self.undisturbed["metrics"], "other metrics than undisturbed")


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_end(pids):
    """Of processes that are being ended: mpirun does not wait for those that it kills."""
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        check(time.monotonic() < deadline, "a rank outlives its job")
        time.sleep(0.02)


def undisturbed_epochs(key):
    lines = (UNDISTURBED / "stages" / key / "attempts/1/events.jsonl").read_text().splitlines()
    return {(event["phase"], event["epoch"]): event["loss"] for event in map(json.loads, lines) if event["event"] == "epoch"}


def stop_after(lab, kind, number, rank=1, **options):
    process = lab.start(**options)
    lab.wait_for(kind, number, process)
    lab.stop_rank(process, rank)
    return lab.finish(process, 75)


def an_evaluation_stops_by_agreement_and_goes_on():
    """Guards the stop of an evaluation: one rank is asked, all leave together with 75; finished classes are kept, the numbers are the
    same, and progress counts the images of all ranks."""
    lab = Lab("evaluation", "evaluate")
    images = sum(c["images"] for c in lab.undisturbed["metrics"]["classes"].values())
    first = next(iter(sorted(lab.undisturbed["metrics"]["classes"].items())))[1]["images"]
    stop_after(lab, "progress", first // 8 + 2)
    check(lab.events("stopped"), "no word of the stop")
    done = [event["done"] for event in lab.events("progress")]
    check(done == sorted(set(done)) and done[-1] < lab.events("progress")[0]["total"], f"progress: {done}")
    kept = sorted(path.parent.name for path in lab.stage.glob("kept/*/*/class.json"))
    check(kept, "nothing is kept")
    lab.run()
    again = lab.events("progress")
    check(again[-1]["done"] == again[-1]["total"], f"progress at the end: {again[-1]}")
    check(again[-1]["total"] % images == 0, f"{again[-1]} of {images} images")
    result = json.loads((lab.stage / "result.json").read_text())
    check(result["metrics"] == lab.undisturbed["metrics"], "other metrics than undisturbed")
    check(not (lab.stage / "kept").exists(), "what was kept is still there")
    names = lambda folder: sorted(str(path.relative_to(folder)) for path in folder.glob("heat_maps/*/*.png"))
    check(names(lab.stage) and names(lab.stage) == names(UNDISTURBED / "stages" / lab.key), "other heat maps")


def an_evaluation_is_the_same_on_any_number_of_ranks():
    """Guards the dealing of images: 1, 2 and 3 ranks within 0.1 point of each other."""
    for ranks in (1, 3):
        lab = Lab(f"evaluation-{ranks}", "evaluate")
        lab.run(ranks=ranks)
        found = json.loads((lab.stage / "result.json").read_text())["metrics"]
        for name, value in lab.undisturbed["metrics"].items():
            if isinstance(value, float):
                check(abs(found[name] - value) < 1e-3, f"{name} on {ranks} ranks: {found[name]}, on two {value}")


def ranks_that_see_other_snapshots_go_on_together():
    """Guards a lagging host: rank 1 sees no snapshot at all, and rank 0's counts; the parameters are those of a run that nobody
    disturbed, bit for bit, and so are the epochs' losses."""
    lab = Lab("snapshots", "train")
    other = lab.copy_of_workspace()
    stop_after(lab, "step", 5)
    lab.run(workspaces=[lab.workspace, other])
    check(lab.events("resumed"), "it began anew")
    lab.check_same_checkpoint()
    check(lab.epochs() == undisturbed_epochs(lab.key), f"losses of epochs: {lab.epochs()}")


def a_poisoned_snapshot_is_passed_over():
    """Guards a snapshot whose files are whole and whose numbers are none: the one before it is taken, and an event says so."""
    lab = Lab("poisoned", "train")
    stop_after(lab, "step", 3)
    stop_after(lab, "step", 2)
    newest = lab.snapshots()[-1]
    check(len(lab.snapshots()) == 2, f"snapshots: {lab.snapshots()}")
    params = load_file(newest / "params.safetensors")
    next(iter(params.values())).flat[0] = np.nan
    save_file(params, newest / "params.safetensors")
    sums = (newest / "SHA256SUMS").read_text().splitlines()
    sums = [f"{sha256(newest / line[66:])}  {line[66:]}" for line in sums]
    (newest / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    lab.run()
    told = lab.events("unusable")
    check([event["snapshot"] for event in told] == [newest.name] and "not finite" in told[0]["reason"], f"told: {told}")
    check(lab.events("resumed")[0]["snapshot"] != newest.name, "the poisoned one was taken")
    lab.check_same_checkpoint()


def a_step_without_numbers_is_never_saved():
    """Guards training against infinite parameters: it ends with the step, its images and the last good snapshot, which stays good; with
    on_not_finite: skip it passes over such steps, ten in a row at most."""
    for choice, expected in ({}, "is not finite, with the images"), ({"on_not_finite": "skip"}, "for the 10th step in a row"):
        lab = Lab("infinite" + str(len(choice)), "train")
        lab.spec["train"]["snapshots"] = {"every_steps": 1}
        lab.spec["train"]["main"]["learning_rate"] = {"prompts": 1e6, "mdci": 1e6}
        lab.spec["train"].update(choice)
        lab.write_spec(lab.spec)
        told = lab.run(code=1)
        check(expected in told or "the parameters are not finite" in told, told)
        check("the last good" in told and ("step-" in told or "is none" in told), told)
        for snapshot in lab.snapshots():
            values = load_file(snapshot / "params.safetensors").values()
            check(all(np.isfinite(value).all() for value in values), f"{snapshot} was saved")


def comparing_the_ranks_changes_nothing():
    """Guards verify_every_steps: equal ranks train on, to the same bits. (That a difference is named: test_gradients.)"""
    lab = Lab("compared", "train")
    lab.spec["train"]["verify_every_steps"] = 2
    lab.write_spec(lab.spec)
    lab.run()
    lab.check_same_checkpoint()


def an_epoch_is_told_whole_however_often_it_was_stopped():
    """Guards what searches decide by: each epoch's loss is that of all its steps, and none is lost with the death of its last one."""
    lab = Lab("epochs", "train")
    for _ in range(4):
        stop_after(lab, "step", 1)
    lab.run()
    check(lab.epochs() == undisturbed_epochs(lab.key), f"losses of epochs: {lab.epochs()}, undisturbed {undisturbed_epochs(lab.key)}")
    lab.check_same_checkpoint()


class AheadOfPhaseTwo(Lab):
    """A training of one step in phase one, and then of so many prompts that what is computed ahead of phase two takes seconds: 28 images."""

    row_bytes = 2 * 128 * 4

    def __init__(self, name):
        super().__init__(f"ahead-{name}", "train")
        self.spec["train"]["batch_size"] = 28
        self.spec["train"]["main"]["epochs"] = 1
        self.spec["train"]["adapter"]["epochs"] = 100
        self.spec["model"]["prompts"]["positions"] = "all"
        for entry in self.spec["descriptions"]["classes"].values():
            entry["descriptions"] = [f"{text} of the kind {i}" for text in entry["descriptions"] for i in range(4)]
        self.write_spec(self.spec)

    def is_in_phase_two(self):
        return any(event["phase"] == "adapter" for event in self.events("step"))

    def done(self):
        return [event["done"] for event in self.events("progress")]

    def kept(self):
        """{file: its rows}: records of two u64 (first row, rows), a digest in 64 hex digits, rows of 2 x 128 float32."""
        found = {}
        for path in sorted(self.stage.glob("kept/*")):
            data, rows = path.read_bytes(), b""
            while data:
                size = int.from_bytes(data[8:16], "little") * self.row_bytes
                rows, data = rows + data[80 : 80 + size], data[80 + size :]
            found[path.name] = rows
        return found

    def checkpoint(self):
        return sha256(self.stage / "checkpoint/params.safetensors")

    def killed(self, ranks=2):
        """By kill -9 in the middle."""
        process = self.start(ranks=ranks)
        self.wait_for("progress", 1, process)
        for pid in self.ranks(process).values():
            os.kill(pid, signal.SIGKILL)
        check(process.wait(timeout=60) != 0, "a killed worker ended well")


def what_is_computed_ahead_of_phase_two_is_gone_on_with():
    """Guards a quarter of an hour at ViT-L: it is told as progress, stopped with 75 by agreement, outlives kill -9 and a cut-off file, and
    comes to the checkpoint of a run that nobody disturbed."""
    undisturbed = AheadOfPhaseTwo("undisturbed")
    undisturbed.run()
    done = undisturbed.done()
    check(done == [8, 16, 24, 28] and undisturbed.events("progress")[0]["total"] == 28, f"progress: {done}")
    check(undisturbed.events("progress")[0]["unit"] == "images ahead of phase adapter", "another unit")

    lab = AheadOfPhaseTwo("stopped")
    told = stop_after(lab, "progress", 1)
    stopped = lab.done()[-1]
    check(stopped < 28 and f"after {stopped} of 28 images ahead of phase adapter; they are kept" in told, told)
    check(lab.events("stopped") and not lab.is_in_phase_two(), "it trained on")
    lab.killed()
    check(lab.done()[0] == stopped, f"it began at {lab.done()}, {stopped} were kept")
    kept = next(lab.stage.glob("kept/*"))
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-10])
    told = lab.run()
    check("damaged or cut off after row" in told, told)
    check(0 < lab.done()[0] < 28 and lab.done()[-1] == 28, f"progress after a cut: {lab.done()}")
    check(lab.checkpoint() == undisturbed.checkpoint(), "other parameters than undisturbed")
    check(not (lab.stage / "kept").exists(), "what was kept is still there")


def what_is_computed_ahead_of_phase_two_is_the_same_on_any_number_of_ranks():
    """Guards going on with more or fewer nodes: the vectors have the same bits; and those of other parameters are not taken."""
    lab = AheadOfPhaseTwo("ranks")
    stop_after(lab, "step", 2)  # the first of phase two: they are whole
    whole = lab.kept()
    check(len(whole) == 1 and [len(rows) for rows in whole.values()] == [28 * lab.row_bytes], f"kept: {list(whole)}")
    halves = np.frombuffer(next(iter(whole.values())), np.float32).reshape(28, 2, -1)
    check(np.allclose(np.linalg.norm(halves, axis=2), 1, atol=1e-5), "normal and abnormal texts are of length 1")
    for ranks in (1, 3):
        shutil.rmtree(lab.stage / "kept")
        stop_after(lab, "progress", 1, rank=0, ranks=ranks)
        check(not lab.is_in_phase_two(), "the stop came late: this tests nothing")
        stop_after(lab, "step", 1, rank=0, ranks=2 if ranks == 1 else 1)
        check(lab.kept() == whole, f"other bits on {ranks} ranks")

    shutil.rmtree(lab.stage / "snapshots")
    lab.spec["train"]["main"]["learning_rate"] = {"prompts": 0.002, "mdci": 0.002}
    lab.write_spec(lab.spec)
    stop_after(lab, "progress", 1)
    check(lab.done()[0] == 8, f"vectors of other parameters were taken: {lab.done()}")
    check(len(lab.kept()) == 2, f"kept: {list(lab.kept())}")


def processes_that_do_not_know_of_each_other_do_no_work():
    """Guards srun without an MPI that the worker knows: each of two processes would train everything into one folder."""
    lab = Lab("strangers", "train")
    lab.attempt = 1
    (lab.stage / "attempts/1").mkdir(parents=True)
    environment = dict(os.environ, SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="0")
    process = subprocess.run(lab.command(lab.workspace), cwd=lab.home, env=environment, capture_output=True, text=True, timeout=60)
    check(process.returncode == 1, f"ended with {process.returncode}")
    check("found 1 ranks, expected the 2 that were launched (SLURM_STEP_NUM_TASKS)" in process.stderr, process.stderr)
    check(not (lab.stage / "attempts/1/events.jsonl").exists(), "it began")


HANG_TIMEOUT = 6
WATCHED = ["--hang-timeout", str(HANG_TIMEOUT)]


def a_job_with_a_stopped_rank_ends():
    """Guards the watchdog: whichever rank is stopped, the job ends within the timeout and 5 s, says which rank was last heard of and where,
    leaves no process behind, and the next attempt comes to what an undisturbed one does."""
    for kind, event in ("train", "step"), ("evaluate", "progress"):
        for stopped in (0, 1):
            lab = Lab(f"stopped-{kind}-{stopped}", kind)
            process = lab.start(options=WATCHED)
            lab.wait_for(event, 2, process)
            lab.wait_for_heartbeat(stopped, process)
            ranks = lab.ranks(process)
            os.kill(ranks[stopped], signal.SIGSTOP)
            began = time.monotonic()
            told = lab.finish(process, 1)
            wait_for_end(ranks.values())
            took = time.monotonic() - began
            check(HANG_TIMEOUT - 1 < took < HANG_TIMEOUT + 5, f"{kind} ended {took:.1f} s after rank {stopped} was stopped:\n{told}")
            failed = lab.events("failed")
            check([event.get("hung_rank") for event in failed] == [stopped], f"told: {failed}\n{told}")
            check(f"last heard of: rank {stopped} (" in failed[0]["message"] and failed[0]["message"].count(f'at "{kind}: ') == 2, f"told: {failed}")
            check(failed[0]["message"] in told, f"the log lacks the message:\n{told}")
            check(failed[0]["node"] == os.uname().nodename, f"the node: {failed}")
            lab.run()
            lab.check_same_result()
            left = list(lab.stage.glob("attempts/*/starts/*/*"))
            check(not left, f"left behind: {left}")
            print(f"{kind}, rank {stopped} stopped: ended after {took:.1f} s", flush=True)


def a_job_that_was_stopped_as_a_whole_goes_on():
    """Guards jobs that a system stops and continues (scontrol suspend): the time that they were stopped does not count."""
    lab = Lab("suspended", "train")
    process = lab.start(options=["--hang-timeout", "4"])
    lab.wait_for("step", 2, process)
    stopped = [process.pid, *lab.ranks(process).values()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(6)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    lab.finish(process)
    lab.check_same_checkpoint()


def ranks_whose_mpirun_is_stopped_go_on():
    """Guards against judging ranks by their launcher: they train on for longer than the timeout, and all is well afterwards."""
    lab = Lab("stopped-mpirun", "train")
    lab.spec["train"]["main"]["epochs"] = 1000
    lab.write_spec(lab.spec)
    process = lab.start(options=["--hang-timeout", "4"])
    lab.wait_for("step", 2, process)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(6)
    steps = len(lab.events("step"))
    lab.wait_for("step", steps + 2, process)
    os.kill(process.pid, signal.SIGCONT)
    lab.stop_rank(process, 1)
    lab.finish(process, 75)
    check(not lab.events("failed"), f"told: {lab.events('failed')}")


def signals_stop_a_job_or_end_it_and_nothing_is_lost():
    """Guards SIGUSR2 and SIGTERM to mpirun and to each rank alone: the former, and any to a rank, is a stop with a snapshot; mpirun ends
    its ranks at SIGTERM, whether or not they come to one. The next attempt comes to the same as an undisturbed one."""
    trainings = [("train", "step", number, whom) for number in (signal.SIGUSR2, signal.SIGTERM) for whom in ("mpirun", 0, 1)]
    for kind, event, number, whom in trainings + [("evaluate", "progress", signal.SIGTERM, whom) for whom in ("mpirun", 0)]:
        lab = Lab(f"signal-{kind}-{number.name}-{whom}", kind)
        process = lab.start()
        lab.wait_for(event, 2, process)
        ranks = lab.ranks(process)
        os.kill(process.pid if whom == "mpirun" else ranks[whom], number)
        if (whom, number) == ("mpirun", signal.SIGTERM):
            code = process.wait(timeout=60)
            check(code != 0, f"mpirun ended with {code} although it was told to end:\n{lab.log.read_text()}")
        else:
            lab.finish(process, 75)
            check(lab.events("stopped")[-1]["signal"] == number, f"told: {lab.events('stopped')}")
        wait_for_end(ranks.values())
        lab.run()
        lab.check_same_result()


def a_full_disk_leaves_the_former_snapshot():
    """Guards a snapshot for which there is no room (EFBIG in place of ENOSPC): the stage fails and names the file, the snapshots before it
    stay whole, and where there is room again the next attempt goes on from them."""
    lab = Lab("full-disk", "train")
    lab.spec["train"]["snapshot_every_steps"] = 2
    lab.write_spec(lab.spec)
    process = lab.start()
    lab.wait_for("snapshot", 2, process)
    parameters = (lab.snapshots()[-1] / "params.safetensors").stat().st_size
    for rank in lab.ranks(process).values():
        resource.prlimit(rank, resource.RLIMIT_FSIZE, (parameters // 2, parameters // 2))
    told = lab.finish(process, 1)
    message = lab.events("failed")[0]["message"]
    check(message in told and "/snapshots/" in message and ".safetensors" in message and "File too large" in message, f"told: {message}")
    kept = [path.name for path in lab.snapshots()]
    check(kept == [event["path"] for event in lab.events("snapshot")][-2:], f"kept: {kept}")
    lab.run()
    check([event["snapshot"] for event in lab.events("resumed")] == kept[-1:], f"told: {lab.events('resumed')}")
    check(not list(lab.stage.glob("snapshots/.*")), "what was half written is still there")
    lab.check_same_checkpoint()


def a_half_written_snapshot_is_passed_over():
    """Guards snapshots that a power loss left: an event names the file, the newest whole one is taken, or where there is none the training
    begins anew; the result is the same. (Every other damage: test_checkpoint.)"""
    for file, every in ("params.safetensors", False), ("SHA256SUMS", True):
        lab = Lab(f"half-{file}", "train")
        stop_after(lab, "step", 2)
        stop_after(lab, "step", 2)
        whole, newest = lab.snapshots()
        shutil.copytree(newest, newest.parent / f".{newest.name}.0.tmp")  # of a worker that was killed while it wrote
        damaged = [newest, whole] if every else [newest]
        for snapshot in damaged:
            os.truncate(snapshot / file, (snapshot / file).stat().st_size // 2)
        lab.run()
        unusable = lab.events("unusable")
        check([event["snapshot"] for event in unusable] == [path.name for path in damaged], f"told: {unusable}")
        check(all(file in event["reason"] for event in unusable), f"told: {unusable}")
        check([event["snapshot"] for event in lab.events("resumed")] == ([] if every else [whole.name]), "another was taken")
        check(not list(lab.stage.glob("snapshots/.*")), "what was half written is still there")
        lab.check_same_checkpoint()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
