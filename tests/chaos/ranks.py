"""kill -9 of single random ranks, and of mpirun, while the real worker trains: each time it goes on, and at the end the parameters are
those of a run that nobody disturbed, bit for bit, and so are the losses of its epochs.

ranks.py KILLS [SEED]; starts from what the demo left in FILO_SCRATCH (ctest -R integration.demo$)."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).parent.parent / "integration")]
from stages import Lab, check, is_alive, undisturbed_epochs


def killed_once(lab, moments):
    """Whether the attempt was killed before it ended by itself: at a random moment of its first second, or of its first steps, however
    long these take on a busy machine."""
    process = lab.start()
    steps = moments.choice([0, 0, 1, 1, 2, 3, 5])
    delay = moments.uniform(0, 1.0 if steps == 0 else 0.2)
    while process.poll() is None and len(lab.events("step")) < steps:
        time.sleep(0.002)
    try:
        code = process.wait(timeout=delay)
        check(code == 0, f"attempt {lab.attempt} ended with {code} before it was killed:\n{lab.log.read_text()}")
        return False
    except subprocess.TimeoutExpired:
        pass
    ranks = lab.ranks(process)
    victim = moments.choice([process.pid, *ranks.values()])
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        pass
    deadline = time.monotonic() + 60
    while process.poll() is None:
        if time.monotonic() > deadline:
            check(not any(map(is_alive, ranks.values())), f"attempt {lab.attempt} lives on a minute after {victim} was killed:\n{lab.log.read_text()}")
            print(f"attempt {lab.attempt}: mpirun waits for ranks that are gone, and is ended (as `filo run` does after 10 s)", flush=True)
            process.kill()
        time.sleep(0.01)
    for rank in ranks.values():  # mpirun's ranks see that it is gone, and end
        deadline = time.monotonic() + 30
        while pathlib.Path(f"/proc/{rank}/environ").exists() and (pathlib.Path(f"/proc/{rank}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"):
            check(time.monotonic() < deadline, f"rank {rank} outlives its job")
            time.sleep(0.05)
    return True


def training(number, kills, moments):
    """One training from its begin to its end, killed up to `kills` times. Returns how often it was."""
    lab = Lab("killed-ranks", "train")
    lab.spec["train"]["snapshots"] = {"every_steps": 1}
    lab.write_spec(lab.spec)
    done = 0
    while done < kills and killed_once(lab, moments):
        done += 1
    if not (lab.stage / "result.json").exists():
        lab.run()
    lab.check_same_checkpoint()
    check(lab.epochs() == undisturbed_epochs(lab.key), f"losses of epochs: {lab.epochs()}")
    check(not list(lab.stage.glob("snapshots/.step-*")) or len(lab.snapshots()) <= 2, "snapshots are left behind")
    print(f"training {number}: killed {done} times, {lab.attempt} attempts, the same parameters and losses", flush=True)
    return done


def main():
    wanted, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    moments = random.Random(seed)
    started, done, trainings = time.monotonic(), 0, 0
    while done < wanted:
        trainings += 1
        done += training(trainings, min(wanted - done, 100), moments)
    print(f"{done} kills over {trainings} trainings in {time.monotonic() - started:.0f} s, seed {seed}: nothing lost, the same bits")


if __name__ == "__main__":
    main()
