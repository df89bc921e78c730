"""On a cluster with an accounting data base, whose controller forgets a job two seconds after its end: what sacct knows of jobs that
ended while no coordinator looked. Memory is watched too: a job that uses more than it asked for is killed."""

import unittest

from lab import Lab, running_cluster, skip_where_slurm_is_missing, wait_for

SETTINGS = ("MinJobAge=2", "SelectTypeParameters=CR_Core_Memory")


class WithAccounting(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(running_cluster("a", accounting=True, settings=SETTINGS))

    def begin(self, name, **fake):
        """A lab whose one training runs, and its job."""
        lab = Lab(self.cluster, name, trainings=1)
        lab.settings.write_text(lab.settings.read_text().replace("memory: none", "memory: per-node"))
        lab.fake("train", first_only=1, **fake)
        lab.submit()
        lab.until(lambda: lab.running("train"), 30, "the training runs")
        return lab, [job for job, state, _ in lab.queue() if state == "R"][0]

    def forgotten(self, lab):
        """Waits until the controller knows none of the workspace's jobs, with no pass meanwhile."""
        wait_for(lambda: not lab.queue(), 90, "the controller forgot the jobs")

    def test_a_job_cancelled_while_nobody_looked_was_cancelled(self):
        """Guards that sacct goes before the script's exit code: that is 75, a stop like any other."""
        lab, job = self.begin("unseen", seconds=60)
        self.cluster.call("scancel", job)
        self.forgotten(lab)
        self.assertIn("cancelled from outside (Slurm job", lab.until(lambda: lab.stages("train")[0]["reason"], 10, "a reason"))
        self.assertEqual(lab.stages("train")[0]["state"], "cancelled")
        lab.filo("retry", lab.name)
        lab.until_done()
        lab.check_once_each()

    def test_a_job_lost_with_its_node_while_nobody_looked_is_started_again(self):
        """Guards NODE_FAIL by sacct: no exit code is left, and the next attempt starts at once, elsewhere."""
        lab, job = self.begin("node", seconds=60)
        node = self.cluster.call("squeue", "-h", "-j", job, "-o", "%N").strip()
        self.cluster.kill_node(node)
        try:
            self.forgotten(lab)
            lab.until_done()
        finally:
            self.cluster.start_slurmd(node)
        lab.check_once_each()
        key = lab.stages("train")[0]["key"]
        self.assertEqual(lab.end(key, 1)["cause"], "node_failure")
        self.assertIn(node, lab.end(key, 1)["reason"])

    def test_a_job_that_used_too_much_memory_says_so(self):
        """Guards OverMemoryKill, which real Slurm calls FAILED with signal 9: a failure whose reason speaks of memory."""
        lab = Lab(self.cluster, "hungry", trainings=1)
        lab.settings.write_text(lab.settings.read_text().replace("memory: none", "memory: per-node"))
        lab.fake("train", seconds=60, first_only=1, hungry_megabytes=300)
        lab.submit()
        lab.until(lambda: lab.stages("train")[0]["attempt"] == 2, 60, "a second attempt")
        end = lab.end(lab.stages("train")[0]["key"], 1)
        self.assertEqual((end["outcome"], end["cause"]), ("failed", "signalled"), end)
        self.assertIn("short of memory; it had asked for 100M", end["reason"])
        lab.until_done()

    def test_what_succeeded_unseen_is_done(self):
        """Guards that result.json decides, whatever Slurm still knows."""
        lab, _ = self.begin("success", seconds=1)
        self.forgotten(lab)
        lab.until_done()
        lab.check_once_each()
        self.assertEqual(lab.stages("train")[0]["attempt"], 1)


if __name__ == "__main__":
    skip_where_slurm_is_missing(accounting=True)
    unittest.main(verbosity=2)
