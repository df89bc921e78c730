#!/usr/bin/env python3
"""The metrics of a class's pixels here and the usual way, on the same maps, in one run, with the ratio and the differences.

    bench/metrics_peer.py [--images 200] [--side 518] [--threads 2] [--memory 512] [--worker PATH] [--json]

The usual way: scikit-learn's roc_auc_score, average_precision_score and precision_recall_curve over all pixels, and AUPRO of 200
thresholds, at each of which the overlap with every region is counted. Needs `make build` and 60 bytes of memory a pixel."""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

root = pathlib.Path(__file__).resolve().parent.parent


def usual_aupro(maps, masks, limits, thresholds=200):
    regions = []  # labelled once, which the usual loop does for each threshold anew
    for number, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        places = ndimage.find_objects(labelled)
        regions += [(number, place, labelled[place] == i + 1) for i, place in enumerate(places)]
    normal = masks == 0
    false_positive_rates, overlaps = [], []
    for threshold in np.linspace(maps.max(), maps.min(), thresholds):
        found = maps >= threshold
        false_positive_rates.append(np.count_nonzero(found & normal) / np.count_nonzero(normal))
        overlaps.append(np.mean([np.count_nonzero(found[number][place] & region) / np.count_nonzero(region)
                                 for number, place, region in regions]))
    values = {}
    for limit in limits:
        rates = np.array([0] + [rate for rate in false_positive_rates if rate < limit] + [limit])
        values[limit] = np.trapezoid(np.interp(rates, [0] + false_positive_rates, [0] + overlaps), rates) / limit
    return values


def usual(maps, masks):
    seconds, values = {}, {}

    def timed(name, work):
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        return result

    scores, labels = maps.ravel(), masks.ravel()
    values["pixel_auroc"] = timed("roc_auc_score", lambda: roc_auc_score(labels, scores))
    values["pixel_ap"] = timed("average_precision_score", lambda: average_precision_score(labels, scores))
    precision, recall, _ = timed("precision_recall_curve", lambda: precision_recall_curve(labels, scores))
    values["pixel_f1_max"] = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
    del precision, recall
    aupro = timed("aupro", lambda: usual_aupro(maps, masks, (0.3, 0.05)))
    values["aupro"], values["aupro_at_0.05"] = aupro[0.3], aupro[0.05]
    return seconds, {name: float(value) for name, value in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 200), ("side", 518), ("threads", 2), ("memory", 512)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--worker", default=root / "build/bin/filo-worker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not pathlib.Path(options.worker).exists():
        sys.exit(f"bench/metrics_peer.py: {options.worker} is not there: run `make build` first")
    with tempfile.TemporaryDirectory() as folder:
        sizes = [f"--{name}={getattr(options, name)}" for name in ("images", "side", "threads", "memory")]
        done = subprocess.run([str(options.worker), "bench", "metrics", "--json", "--save", folder, *sizes],
                              stdout=subprocess.PIPE, check=True)
        here = json.loads(done.stdout)
        shape = (options.images, options.side, options.side)
        maps = np.fromfile(pathlib.Path(folder) / "maps.f32", np.float32).reshape(shape)
        masks = np.fromfile(pathlib.Path(folder) / "masks.u8", np.uint8).reshape(shape)
    processor = time.process_time()
    seconds, values = usual(maps, masks)
    processor = time.process_time() - processor
    result = {"here": here, "usual": {"seconds": seconds, "cpu_seconds": processor, "metrics": values,
                                      "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
              "ratio": sum(seconds.values()) / here["seconds"], "cpu_ratio": processor / here["cpu_seconds"]}
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, value in seconds.items():
        print(f"{name:28} {value:9.2f} s")
    print(f"{'the usual way':28} {sum(seconds.values()):9.2f} s {result['usual']['peak_rss_bytes'] / 1e9:6.2f} GB")
    print(f"{'here':28} {here['seconds']:9.2f} s {here['peak_rss_bytes'] / 1e9:6.2f} GB, with intervals "
          f"{here['seconds_with_intervals']:.2f} s: {result['ratio']:.0f} x, "
          f"{result['cpu_ratio']:.0f} x of the processor's time ({processor:.1f} s, {here['cpu_seconds']:.2f} s)")
    for name, value in values.items():
        print(f"{name:28} {here['metrics'][name]:.9f} {value:.9f}, from bins {here['binned'][name]:.9f}")


if __name__ == "__main__":
    main()
