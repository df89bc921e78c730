"""The scheduler on a real Slurm cluster of four virtual nodes: what a site does to jobs, and what must come of it."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest
import urllib.request

from lab import FILO, SOURCE, Lab, running_cluster, skip_where_slurm_is_missing, wait_for


def count_commands(lab):
    """The lab's cluster file names Slurm's commands by a folder whose programs leave a line each in the file that this returns."""
    folder = lab.folder / "bin"
    folder.mkdir()
    for program in ("sbatch", "squeue", "scancel", "scontrol"):
        (folder / program).write_text(f'#!/bin/sh\necho {program} >>"{folder}/calls"\nexec {shutil.which(program)} "$@"\n')
        (folder / program).chmod(0o755)
    lab.settings.write_text(lab.settings.read_text() + f"slurm_bin: {folder}\n")
    return folder / "calls"


# Stands in for Apptainer: a root of its own with the system's folders and what was bound, and nothing else of this machine.
APPTAINER = r"""#!/bin/bash
[ "$1" != --version ] || { echo 'apptainer version 0'; exit; }
[ "$1" = exec ] || exit 99
shift
binds=(/usr /bin /lib /lib64 /etc /proc /dev /sys)
while :; do
  case $1 in
    --pwd) folder=$2; shift ;;
    --bind=*:*) exit 98 ;;
    --bind=*) binds+=("${1#--bind=}") ;;
    *) break ;;
  esac
  shift
done
[ "$1" = /images/filo.sif ] || exit 97
shift
export folder binds_text=$(printf '%s\n' "${binds[@]}")
exec unshare --user --map-root-user --mount bash -c '
  root=$(mktemp -d) && mount -t tmpfs none "$root" || exit 96
  while read -r bound; do mkdir -p "$root$bound" && mount --rbind "$bound" "$root$bound" || exit 95; done <<<"$binds_text"
  cd / && exec chroot "$root" bash -c '"'"'cd "$folder" && exec "$@"'"'"' in "$@"' in "$@"
"""


class OnACluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(running_cluster("c", gpus=2))
        # A time limit takes Slurm a minute and a half to see: it runs while the other tests do.
        cls.overdue = Lab(cls.cluster, "overdue", trainings=1, time_limit="00:01:00")
        cls.overdue.fake("train", seconds=300, deaf=1, first_only=1)
        cls.overdue.submit()
        cls.overdue.until(lambda: cls.overdue.running("train"), 30, "the training runs")

    def lab(self, name, **options):
        return Lab(self.cluster, name, **options)

    def test_a_grid_is_a_few_arrays_and_each_stage_runs_once(self):
        """Guards arrays, 2-rank MPI jobs and inputs: the 2 features are one array, so are the 5 trainings, ready together after them."""
        lab = self.lab("arrays", trainings=5)
        lab.submit()
        lab.until_done()
        lab.check_once_each()
        tasks = [int(job.split("_")[0]) for job, _, _ in lab.queue()]
        ends = [(end.parent.parent.parent.name, end.read_text(), lab.log(end.parent.parent.parent.name, int(end.parent.name)))
                for end in lab.workspace.glob("stages/*/attempts/*/end.json") if '"done"' not in end.read_text()]
        self.assertEqual(len(tasks), 12, ends)
        self.assertEqual([tasks.count(array) for array in sorted(set(tasks))][:2], [2, 5], lab.queue())
        for stage in lab.status().values():
            self.assertIn("2 ranks", lab.log(stage["key"], 1))
        lab.until(lambda: not list((lab.workspace / "slurm/batches").glob("*")), 20, "no record of a batch left")

    def test_srun_starts_the_ranks_too(self):
        """Guards launcher.program: srun."""
        lab = self.lab("srun", trainings=1, settings="")
        text = lab.settings.read_text().replace("program: mpirun", "program: srun").replace('"--oversubscribe"', "")
        lab.settings.write_text(text)
        lab.submit()
        lab.until_done()
        lab.check_once_each()

    def test_each_form_of_asking_for_gpus_gets_them(self):
        """Guards gpus.form: real Slurm takes each, gives two ranks two (pretended) GPUs, and says which to the worker."""
        for form in ("gres", "gpus", "gpus-per-task"):
            lab = self.lab(f"gpu-{form}", trainings=1, settings=f"gpus: {{form: {form}}}\n")
            lab.experiment.write_text(lab.experiment.read_text().replace("threads: 1,", "threads: 1, gpus: 1,"))
            lab.submit()
            lab.until_done()
            for stage in lab.status().values():
                self.assertIn("GPUs 0,1", lab.log(stage["key"], 1), form)

    def test_a_thousand_jobs_are_submitted_in_seconds_and_few_commands(self):
        """Guards the figure: 1,000 jobs in at most 30 s of the coordinator's time and (jobs / array size) + 5 commands."""
        lab = self.lab("thousand", trainings=1000, settings="max_array_size: 400\nmax_submit: 2000\n")
        lab.submit()
        wait_for(lambda: len(lab.committed()) == 2, 30, "features")
        wait_for(lambda: not [row for row in lab.queue() if row[1] in ("R", "CG", "PD")], 30, "features' jobs ended")
        calls = count_commands(lab)
        lab.fake("train", seconds=600)
        start = time.monotonic()
        lab.reconcile()
        seconds = time.monotonic() - start
        self.cluster.call("scancel", "--quiet", *{job.split("_")[0] for job, state, _ in lab.queue() if state != "CD"})
        calls = calls.read_text().split()
        print(f"1,000 jobs submitted in {seconds:.1f} s with {len(calls)} commands: {' '.join(calls)}")
        self.assertEqual(calls.count("sbatch"), 3)
        self.assertLessEqual(len(calls), 1000 // 400 + 5)
        self.assertLess(seconds, 30)
        lab.until(lambda: "cancelled" in lab.states(), 30, "cancelled")

    def test_the_benchmark_submits_cancels_and_leaves_nothing(self):
        """Guards `filo bench scheduler --cluster`: its figures, no job and no file afterwards."""
        lab = self.lab("measured")
        folder = lab.folder / "bench"
        sizes = ["--stages", "10", "--trials", "2", "--workers", "5", "--seconds", "1", "--jobs", "40", "--folder", folder]
        result = subprocess.run([FILO, "bench", "scheduler", "--json", "--cluster", lab.settings, *map(str, sizes)],
                                env=self.cluster.environment(), cwd=lab.folder, capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        figures = json.loads(result.stdout)
        self.assertEqual(figures["submission"]["jobs"], 40)
        self.assertLessEqual(figures["submission"]["commands"], 6)
        self.assertEqual((figures["events"]["lost"], figures["posted_events"]["failed"]), (0, 0))
        self.assertGreater(figures["serve_memory_mb"], 1)
        wait_for(lambda: str(folder) not in self.cluster.call("squeue", "-h", "-o", "%k"), 20, "no job left")
        self.assertEqual(list(lab.folder.glob("bench*")), [])

    def exclusions(self, lab):
        """What each job of the workspace that Slurm still knows keeps away from, where it does."""
        text = self.cluster.call("scontrol", "show", "job", "--oneliner")
        nodes = [line.split("ExcNodeList=")[1].split()[0] for line in text.splitlines() if str(lab.workspace) in line]
        return [node for node in nodes if node != "(null)"]

    def test_a_node_that_is_not_fit_for_work_is_left_by_all(self):
        """Guards the health check: no failure is counted, status names the node, and no later job of the workspace goes there."""
        sick = "[ $SLURMD_NODENAME != n1 ] || stat() { return 1; }"
        lab = self.lab("unfit", trainings=6, settings=f"prologue: ['{sick}']\nmax_array_size: 1\n")
        lab.fake("features", seconds=2)
        lab.submit()
        lab.until(lambda: len(lab.committed()) >= 2, 60, "features")
        ends = [path.read_text() for path in lab.workspace.glob("stages/*/attempts/*/end.json")]
        self.assertTrue(any("the node n1 is not fit for work: the workspace cannot be written" in end for end in ends), ends)
        told = lab.filo("status", lab.name).stdout
        self.assertRegex(told, r"all stages keep away from n1 until \w+ \d\d:\d\d: the node n1 is not fit for work")
        self.assertNotIn("failed", told)
        lab.until_done()
        lab.check_once_each()
        self.assertEqual(set(self.exclusions(lab)), {"n1"})

    def test_an_attempt_that_dies_at_once_is_followed_elsewhere(self):
        """Guards the next attempt's --exclude where the stage itself may be the cause."""
        lab = self.lab("died", trainings=1)
        lab.fake("train", code=1, first_only=1)
        lab.submit()
        lab.until(lambda: lab.stages("train")[0]["attempt"] == 2, 30, "a second attempt")
        key = lab.stages("train")[0]["key"]
        node = lab.log(key, 1).split(" on ")[1].split(",")[0]
        self.assertEqual(self.exclusions(lab), [node])
        lab.until_done()
        self.assertNotIn(f"start 1 on {node},", lab.log(key, 2))

    def test_a_worker_in_a_container_has_all_that_it_needs(self):
        """Guards container.runtime: apptainer under mpirun: what filo mounts by itself is enough, beside the worker's own folder."""
        if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True).returncode != 0:
            self.skipTest("this machine lets nobody make a namespace to stand in for a container")
        container = f"container: {{runtime: apptainer, image: /images/filo.sif, mounts: [{SOURCE}/tests/slurm]}}\n"
        lab = self.lab("contained", trainings=1, settings=container)
        lab.write("bin/apptainer", APPTAINER).chmod(0o755)
        lab.settings.write_text(lab.settings.read_text() + f"prologue: ['PATH={lab.folder}/bin:$PATH']\n")
        lab.submit()
        lab.until_done()
        lab.check_once_each()
        for stage in lab.status().values():
            self.assertIn("2 ranks", lab.log(stage["key"], 1))

    def test_a_requeued_job_goes_on_under_its_attempt(self):
        """Guards preemption where the site requeues (requeue: true): the same attempt starts twice, its result counts once."""
        lab = self.lab("requeued", trainings=1, settings="requeue: true\n")
        lab.fake("train", seconds=60, first_only=1)
        lab.submit()
        lab.until(lambda: lab.running("train"), 30, "the training runs")
        job = [job for job, state, _ in lab.queue() if state == "R"][0]
        self.cluster.call("scontrol", "requeue", job)
        lab.until_done()
        lab.check_once_each()
        training = lab.stages("train")[0]
        self.assertEqual(training["attempt"], 1)
        self.assertIn("start 2 on", lab.log(training["key"], 1))

    def test_a_job_cancelled_from_outside_waits_for_retry(self):
        """Guards scancel: the stage is cancelled, says so, is left alone, and runs again after filo retry."""
        lab = self.lab("cancelled", trainings=1)
        lab.fake("train", seconds=60, first_only=1)
        lab.submit()
        lab.until(lambda: lab.running("train"), 30, "the training runs")
        self.cluster.call("scancel", [job for job, state, _ in lab.queue() if state == "R"][0])
        lab.until(lambda: lab.stages("train")[0]["state"] == "cancelled", 20, "cancelled")
        self.assertIn("cancelled from outside (Slurm job", lab.stages("train")[0]["reason"])
        lab.reconcile()
        self.assertEqual(lab.stages("train")[0]["attempt"], 1)
        self.assertEqual(lab.stages("evaluate")[0]["state"], "blocked")
        lab.filo("retry", lab.name)
        lab.until_done()
        lab.check_once_each()

    def test_cancel_ends_the_jobs_of_an_experiment(self):
        """Guards filo cancel: jobs leave the queue, running and pending ones."""
        lab = self.lab("given-up", trainings=3)
        lab.fake("train", seconds=60)
        lab.submit()
        lab.until(lambda: lab.running("train"), 30, "a training runs")
        lab.filo("cancel", lab.name)
        lab.until(lambda: not [j for j in lab.queue() if j[1] in ("R", "PD", "CG")], 20, "no job left")
        lab.until(lambda: {stage["state"] for stage in lab.stages("train")} == {"cancelled"}, 10, "all trainings cancelled")

    def test_a_full_queue_delays_and_loses_nothing(self):
        """Guards max_submit: never more jobs in the queue than the site allows one user."""
        most = len([1 for line in self.cluster.call("squeue", "-h", "-r").splitlines()]) + 3
        lab = self.lab("full", trainings=8, settings=f"max_submit: {most}\n")
        lab.submit()
        seen = []

        def done():
            seen.append(len(self.cluster.call("squeue", "-h", "-r", "-t", "pending,running,completing").splitlines()))
            return set(lab.states()) == {"done"}

        lab.until(done, 120, "every stage done")
        self.assertLessEqual(max(seen), most)
        lab.check_once_each()

    def test_a_coordinator_killed_at_any_step_submits_nothing_twice(self):
        """Guards the two phases: kill -9 at each failpoint of a submission, then every stage ran exactly once."""
        lab = self.lab("killed", trainings=6)
        lab.submit("--no-watch", code=0)
        for point in ("attempt made", "claimed", "submitted", "recorded", "released", "started", "end recorded"):
            lab.fake("train", seconds=0.2)

            def killed():
                code = lab.reconcile(code=None, FILO_FAILPOINT=point).returncode
                return code == -signal.SIGKILL or set(lab.states()) == {"done"}

            wait_for(killed, 30, f"killed at {point}")
        lab.until_done()
        lab.check_once_each()

    def test_doctor_runs_a_job_and_names_what_fails(self):
        """Guards filo doctor: good on this cluster but for the fake worker; a partition that is not there is named."""
        lab = self.lab("doctor")
        real = lab.settings.read_text().replace(f"{SOURCE}/tests/slurm/fake-worker", os.environ["FILO_WORKER"])
        lab.settings.write_text(real)
        answer = json.loads(lab.filo("doctor", "--cluster", lab.settings, "--json").stdout)
        verdicts = {check["name"]: check["verdict"] for check in answer["checks"]}
        self.assertTrue(answer["works"], answer)
        for name in ("controller", "test job", "node's files", "MPI on the node", "file locks", "times of change", "clock"):
            self.assertEqual(verdicts[name], "good", answer)
        lab.settings.write_text(real + "partition: nowhere\n")
        answer = json.loads(lab.filo("doctor", "--cluster", lab.settings, "--json", code=1).stdout)
        bad = {check["name"]: check for check in answer["checks"] if check["verdict"] == "bad"}
        self.assertIn("partition", bad)
        self.assertTrue(all(check["mend"] for check in bad.values()), bad)

    def test_no_job_asks_for_more_time_than_the_site_gives(self):
        """Guards max_time: a job above the partition's limit would be pending for ever, as doctor says; below it, all is done."""
        lab = self.lab("short", trainings=1)
        plain = lab.settings.read_text()
        self.cluster.call("scontrol", "update", "PartitionName=main", "MaxTime=2")
        try:
            lab.submit()
            where = lab.until(lambda: [s["where"] for s in lab.stages("features") if "PartitionTimeLimit" in s["where"]], 20, "the reason")
            self.assertIn("pending: PartitionTimeLimit", where[0])
            answer = lab.filo("doctor", "--cluster", lab.settings, code=None).stdout
            self.assertIn('set max_time: "00:02:00"', answer)
            lab.filo("cancel", lab.name)
            lab.until(lambda: {s["state"] for s in lab.stages("features")} == {"cancelled"}, 20, "cancelled")
            lab.settings.write_text(plain + 'max_time: "00:02:00"\n')
            lab.submit()
            lab.until_done()
        finally:
            self.cluster.call("scontrol", "update", "PartitionName=main", "MaxTime=INFINITE")
        lab.check_once_each()

    def test_a_server_on_the_login_node_goes_on_and_its_end_ends_no_job(self):
        """Guards filo serve as the coordinator of a cluster: it starts what becomes ready, cancels on request, and leaves jobs when it ends."""
        lab = self.lab("served", trainings=3)
        lab.fake("evaluate", seconds=30, first_only=1)
        calls = count_commands(lab)
        lab.submit()

        def serve(poll_s):
            server = subprocess.Popen([FILO, "serve", "--listen", "127.0.0.1:0", "--poll", str(poll_s), "--workspace", str(lab.workspace)], cwd=lab.folder,
                                      env=self.cluster.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            self.addCleanup(lambda: (server.poll() is None and server.kill(), server.wait()))
            return server

        server = serve(1)
        wait_for(lambda: lab.running("evaluate"), 60, "an evaluation runs, started by the server")
        reach = json.loads((lab.workspace / "server.json").read_text())

        def ask(method, path):
            request = urllib.request.Request(reach["url"] + path, method=method, headers={"Authorization": "Bearer " + (lab.workspace / "token").read_text().strip()})
            return json.load(urllib.request.urlopen(request, timeout=10))

        shown = lambda: [stage for stage in ask("GET", "/api/v1/stages?state=running")["stages"] if "Slurm job" in stage["where"]]
        wait_for(shown, 10, "the server tells where it runs")
        doomed = lab.running("evaluate")[0]["key"]
        ask("POST", f"/api/v1/stages/{doomed}/cancel")
        wait_for(lambda: (lab.end(doomed, 1) or {}).get("outcome") == "cancelled", 20, "cancelled by the server")
        others = [stage["key"] for stage in lab.running("evaluate")]
        self.assertTrue(others)
        server.terminate()
        self.assertEqual(server.wait(20), 0)
        self.assertEqual({stage["state"] for stage in lab.stages("evaluate") if stage["key"] in others}, {"running"})
        calls.write_text("")
        server = serve(60)
        time.sleep(6)
        self.assertEqual(calls.read_text().split(), ["squeue"], "nothing happens: one look a minute")
        lab.filo("retry", doomed)
        server.terminate()
        self.assertEqual(server.wait(20), 0)
        server = serve(1)
        wait_for(lambda: set(lab.states()) == {"done"}, 60, "every stage done")
        server.terminate()
        self.assertEqual(server.wait(20), 0)
        lab.check_once_each()

    def test_dry_run_prints_scripts_that_bash_accepts_and_sends_nothing(self):
        """Guards --dry-run."""
        lab = self.lab("dry", settings="prologue: [\"echo 'it''s' ready\"]\n")
        preview = json.loads(lab.submit("--dry-run", "--json").stdout)
        self.assertEqual([batch["when"] for batch in preview["batches"]], ["now"] + ["when its inputs are done"] * 2)
        for batch in preview["batches"]:
            subprocess.run(["bash", "-n"], input=batch["script"], text=True, check=True)
        self.assertIn("sbatch", lab.submit("--dry-run").stdout)
        self.assertEqual(lab.queue(), [])
        self.assertFalse((lab.workspace / "experiments").exists())

    def test_a_refused_submission_is_told_and_counts(self):
        """Guards a wrong account or partition: no endless attempts, and sbatch's own words in the status."""
        lab = self.lab("refused", trainings=1, settings="partition: nowhere\n")
        lab.submit(code=None)
        lab.until(lambda: "failed" in lab.states(), 20, "failed")
        failed = [stage for stage in lab.status().values() if stage["state"] == "failed"][0]
        self.assertIn("nvalid partition", failed["reason"])
        self.assertEqual(failed["attempt"], 3)

    def test_zz_a_job_over_its_time_gets_twice_the_time(self):
        """Guards TIMEOUT, last because Slurm takes its time: told as such, and the next attempt has two minutes."""
        lab = self.overdue
        lab.until(lambda: lab.stages("train")[0]["attempt"] == 2, 120, "a second attempt")
        training = lab.stages("train")[0]
        end = lab.end(training["key"], 1)
        self.assertEqual(end["cause"], "timeout", end)
        self.assertIn("ran longer than its time of 00:01:00 (Slurm job", end["reason"])
        lab.until_done()
        lab.check_once_each()


class Disasters(unittest.TestCase):
    """Daemons are killed here: a cluster of its own."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(running_cluster("d"))

    def test_a_node_whose_slurmd_dies_loses_its_jobs_and_its_copies_commit_nothing(self):
        """Guards kill -9 of slurmd: the old copy lives on, beside a new attempt on another node; one result counts."""
        lab = Lab(self.cluster, "slurmd", trainings=1)
        lab.fake("train", seconds=35, first_only=1)
        lab.submit()
        lab.until(lambda: lab.running("train"), 30, "the training runs")
        job = [job for job, state, _ in lab.queue() if state == "R"][0]
        node = self.cluster.call("squeue", "-h", "-j", job, "-o", "%N").strip()
        self.assertTrue(self.cluster.kill_slurmd(node))
        lab.until(lambda: lab.stages("train")[0]["attempt"] == 2, 60, "a second attempt")
        training = lab.stages("train")[0]
        end = lab.end(training["key"], 1)
        self.assertEqual((end["outcome"], end["cause"]), ("lost", "node_failure"))
        self.assertIn(f"the node failed (Slurm job {job} on {node})", end["reason"])
        lab.until_done()
        self.cluster.start_slurmd(node)
        self.assertNotIn("attempt 2 start 1 on " + node, lab.log(training["key"], 2))
        lab.check_once_each()

    def test_jobs_run_on_while_the_controller_is_away(self):
        """Guards kill -9 of slurmctld: nothing is concluded while it is down, and nothing is lost or doubled after."""
        lab = Lab(self.cluster, "controller", trainings=3)
        lab.fake("train", seconds=8)
        lab.submit()
        lab.until(lambda: len(lab.running("train")) == 3, 30, "the trainings run")
        time.sleep(6)  # its state is saved every five seconds
        before = {stage["key"]: stage["attempt"] for stage in lab.status().values()}
        self.assertTrue(self.cluster.kill_slurmctld())
        answer = lab.reconcile(code=None)
        self.assertIn("slurm", answer.stdout + answer.stderr)
        self.assertEqual({stage["key"]: stage["attempt"] for stage in lab.status().values()}, before)
        doctor = json.loads(
            lab.filo("doctor", "--cluster", lab.settings, "--wait", "0", "--json", code=1).stdout
        )
        self.assertEqual([c["verdict"] for c in doctor["checks"] if c["name"] == "controller"], ["bad"])
        self.cluster.start_slurmctld()
        lab.until_done(90)
        lab.check_once_each()

    def test_jobs_that_the_controller_forgot_in_a_crash_are_run_again(self):
        """Guards the loss of what slurmctld had taken within its last seconds, and the reuse of its ids."""
        lab = Lab(self.cluster, "forgotten", trainings=3)
        lab.fake("features", seconds=20, first_only=1)
        lab.submit()
        self.cluster.kill_slurmctld()
        self.cluster.start_slurmctld()
        self.cluster.call("sbatch", "-o", "/dev/null", "--job-name=another", "--wrap", "sleep 5")
        lab.until_done(150)
        lab.check_once_each()


class FullController(unittest.TestCase):
    def test_a_controller_that_takes_no_more_jobs_fails_nobody(self):
        """Guards MaxJobCount: sbatch waits and is cut short; the batch waits in the workspace, and all ends well."""
        with running_cluster("f", settings=("MaxJobCount=6", "MinJobAge=2")) as cluster:
            blockers = [
                cluster.call("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 1000").strip() for _ in range(5)
            ]
            lab = Lab(cluster, "crowded", trainings=2, settings="")
            lab.settings.write_text(lab.settings.read_text().replace("command_timeout_s: 10", "command_timeout_s: 3"))
            lab.submit()
            self.assertEqual(lab.queue(), [])
            self.assertNotIn("failed", lab.states())
            cluster.call("scancel", *blockers)
            lab.until_done(120)
            lab.check_once_each()


def run_beside_each_other(*groups):
    """Each group of classes in a process of its own, since they mostly wait. Their output one after the other; 0 when all passed."""
    processes = []
    for group in groups:
        command = [sys.executable, __file__, "--verbose", *group]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    codes = []
    for process in processes:
        print(process.communicate()[0], flush=True)
        codes.append(process.returncode)
    return max(codes)


if __name__ == "__main__":
    skip_where_slurm_is_missing()
    if len(sys.argv) > 1:
        unittest.main()
    sys.exit(run_beside_each_other(["OnACluster"], ["Disasters", "FullController"]))
