#!/usr/bin/env python3
"""A model of how training scales from 1 to 64 GPUs: where reading the features or the all-reduce becomes the limit.

    bench/scaling.py [--seconds-per-image S] [--batch-per-gpu N] [--hidden SHARE] [--network GB/S] [--files GB/S] [--disk GB/S] [--memory GB/S]

Measured: gradient bytes (`filo-worker bench step --json`: gradient_bytes), bytes of features an image (FeatureLayout), the share of
a step in which gradients can travel unseen (the backward pass). Published: bandwidths of H100 SXM (NVLink, 450 GB/s each way),
InfiniBand NDR (400 Gb/s a GPU). docs/explanations/scaling.md reads its tables."""
import argparse

GPUS_PER_HOST = 8
NVLINK = 450e9  # bytes a second, one way, of one GPU
PATCHES, WIDTH, MAPS = 37 * 37, 1024, 7  # of ViT-L/14 at 518 pixels: four layers of patches, three of V-V patches
MASK_BYTES = 518 * 518
GRADIENT_BYTES = 222e6 * 4


def all_reduce_seconds(gpus, gradient_bytes, network):
    """Ring all-reduces: within each host, then of each GPU's share between hosts, and within the hosts again."""
    within = min(gpus, GPUS_PER_HOST)
    hosts = max(gpus // GPUS_PER_HOST, 1)
    seconds = 2 * (within - 1) / within * gradient_bytes / NVLINK
    if hosts > 1:
        seconds += 2 * (hosts - 1) / hosts * (gradient_bytes / GPUS_PER_HOST) / network
    return seconds


def feature_bytes(bytes_per_value):
    return PATCHES * WIDTH * MAPS * bytes_per_value + MASK_BYTES


def step(gpus, options, bytes_per_value=2, gradient_scale=1.0, each_host=None):
    """Seconds of (compute, exposed all-reduce, reading) of one step; reading goes on beside the rest."""
    compute = options.seconds_per_image * options.batch_per_gpu
    exchange = all_reduce_seconds(gpus, GRADIENT_BYTES * gradient_scale, options.network * 1e9)
    exposed = max(0.0, exchange - options.hidden * compute)
    hosts = max(gpus // GPUS_PER_HOST, 1)
    bandwidth = each_host * 1e9 * hosts if each_host else options.files * 1e9
    reading = gpus * options.batch_per_gpu * feature_bytes(bytes_per_value) / bandwidth
    return compute, exposed, reading


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds-per-image", type=float, default=0.0018, help="of one GPU: forward, backward, optimiser")
    parser.add_argument("--batch-per-gpu", type=int, default=8)
    parser.add_argument("--hidden", type=float, default=0.6, help="share of a step's time in which gradients can travel unseen")
    parser.add_argument("--network", type=float, default=50, help="GB/s of one GPU to other hosts")
    parser.add_argument("--files", type=float, default=10, help="GB/s that the file server gives to all together")
    parser.add_argument("--disk", type=float, default=7, help="GB/s of a host's own disk")
    parser.add_argument("--memory", type=float, default=100, help="GB/s of a host's page cache")
    options = parser.parse_args()
    ways = (
        ("fp16 features, fp32 gradients", {}),
        ("bf16 gradients", {"gradient_scale": 0.5}),
        ("int8 features", {"bytes_per_value": 1}),
        ("a local copy", {"each_host": options.disk}),
        ("a local copy, int8, bf16", {"each_host": options.disk, "bytes_per_value": 1, "gradient_scale": 0.5}),
        ("in the host's memory", {"each_host": options.memory}),
        ("in the host's memory, bf16", {"each_host": options.memory, "gradient_scale": 0.5}),
    )
    for title, how in ways:
        print(f"\n{title}\n\n| GPUs | compute ms | all-reduce shown ms | reading ms | images/s | of ideal | limit |\n| --- | --- | --- | --- | --- | --- | --- |")
        for gpus in 1, 2, 4, 8, 16, 32, 64:
            compute, exposed, reading = step(gpus, options, **how)
            seconds = max(compute + exposed, reading)
            limit = "reading" if reading > compute + exposed else "all-reduce" if exposed > 0.05 * compute else "compute"
            rate = gpus * options.batch_per_gpu / seconds
            print(f"| {gpus} | {1e3 * compute:.1f} | {1e3 * exposed:.1f} | {1e3 * reading:.1f} | {rate:.0f} | {100 * compute / seconds:.0f} % | {limit} |")


if __name__ == "__main__":
    main()
