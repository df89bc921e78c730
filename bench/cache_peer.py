#!/usr/bin/env python3
"""Reading a feature cache here, by h5py, and from a memory-mapped .npy file: the same bytes in the same order, in one run, with the ratios.

    bench/cache_peer.py [--samples 100] [--threads 2] [--folder FOLDER] [--worker PATH] [--json]

Needs `make build`, and twice the cache's size (100 samples: 4 GB) of disk and of memory, so that all is read from the page cache."""
import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import h5py
import numpy as np

root = pathlib.Path(__file__).resolve().parent.parent


def seconds_of(work, rounds=3):
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--worker", default=root / "build/bin/filo-worker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cache = pathlib.Path(folder) / "cache"
        command = [options.worker, "bench", "cache", "--keep", cache, "--samples", str(options.samples), "--threads", str(options.threads), "--json"]
        ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        manifest = json.loads((cache / "manifest.json").read_text())
        files = [h5py.File(cache / shard["file"], "r") for shard in manifest["shards"]]
        tensors = manifest["tensors"]
        samples = [(files[sample["shard"]], sample["row"]) for sample in manifest["samples"]]
        order = np.random.default_rng(0).permutation(len(samples))
        sizes = [samples[0][0][name][samples[0][1]].nbytes for name in tensors]

        def by_h5py():
            for index in order:
                file, row = samples[index]
                for name in tensors:
                    file[name][row]

        table = np.lib.format.open_memmap(pathlib.Path(folder) / "samples.npy", "w+", np.uint8, (len(samples), sum(sizes)))
        for index, (file, row) in enumerate(samples):
            table[index] = np.concatenate([np.ascontiguousarray(file[name][row]).view(np.uint8).ravel() for name in tensors])
        table.flush()
        mapped = np.load(pathlib.Path(folder) / "samples.npy", mmap_mode="r")

        def by_memory_map():
            for index in order:
                np.array(mapped[index])

        by_h5py(), by_memory_map()  # into the page cache
        total = sum(sizes) * len(samples)
        found = {"ours": ours["warm"]["reader_bytes_per_s"], "h5py": total / seconds_of(by_h5py), "npy": total / seconds_of(by_memory_map)}
        found |= {"of_h5py": found["ours"] / found["h5py"], "of_npy": found["ours"] / found["npy"], "bench": ours}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"filo-worker, {options.threads} threads: {found['ours'] / 1e9:.2f} GB/s, {found['bench']['warm']['of_pread']:.2f} of pread")
    print(f"h5py:                   {found['h5py'] / 1e9:.2f} GB/s, ours is {found['of_h5py']:.1f} times as fast")
    print(f"memory-mapped .npy:     {found['npy'] / 1e9:.2f} GB/s, ours is {found['of_npy']:.1f} times as fast")


if __name__ == "__main__":
    main()
