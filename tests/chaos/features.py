"""kill -9 of ranks while a feature cache is built: finished by 1 or by 3 ranks, it is each time the one that nobody disturbed.

features.py KILLS [SEED]; starts from what the demo left in FILO_SCRATCH (ctest -R integration.demo$)."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).parent.parent / "integration")]
from features import Building, check_same_content, content
from stages import UNDISTURBED, wait_for_end


def killed(lab, moments):
    """At a random moment of the attempt's start, or of its first batches. False: it was done before."""
    process = lab.start(ranks=2)
    batches, delay = moments.choice([0, 1, 2, 3]), moments.uniform(0, 0.3)
    while process.poll() is None and len(lab.events("progress")) < batches:
        time.sleep(0.002)
    try:
        process.wait(timeout=delay)
        return False
    except subprocess.TimeoutExpired:
        pass
    ranks = list(lab.ranks(process).values())
    for victim in moments.sample(ranks, moments.randint(0, len(ranks))) or [process.pid]:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    wait_for_end(ranks)
    return True


def main():
    wanted, moments = int(sys.argv[1]), random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    started, done, caches = time.monotonic(), 0, 0
    while done < wanted:
        lab = Building("killed-build")
        kills = 0
        while done + kills < wanted and killed(lab, moments):
            kills += 1
        done, caches = done + kills, caches + 1
        if not (lab.stage / "result.json").exists():
            lab.run(ranks=moments.choice([1, 3]))
        check_same_content(lab.cache, content(UNDISTURBED / "features" / lab.key))
        print(f"cache {caches}: killed {kills} times, the same samples", flush=True)
    print(f"{done} kills over {caches} caches in {time.monotonic() - started:.0f} s: nothing lost, the same bits")


if __name__ == "__main__":
    main()
