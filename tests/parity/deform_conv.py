"""deform_conv2d, values and every gradient, against torchvision.ops.deform_conv2d."""
import itertools
import os
import subprocess
import tempfile

import torch
from torchvision.ops import deform_conv2d

RUNNER = os.environ["FILO_DEFORM_CONV_RUNNER"]
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


def reference(x, weight, offset, pull, mask):
    leaves = [t.clone().requires_grad_() for t in ([x, weight, offset] if mask is None else [x, weight, offset, mask])]
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    # torchvision's own layout has the channels first.
    output = deform_conv2d(leaves[0].permute(0, 3, 1, 2), leaves[2], leaves[1], padding=padding,
                           mask=None if mask is None else leaves[3]).permute(0, 2, 3, 1)
    return [output.detach(), *torch.autograd.grad(output, leaves, pull)]


def ours(tensors, folder, kernels):
    source, target = os.path.join(folder, "in.pt"), os.path.join(folder, "out.pt")
    torch.save(tensors, source)
    subprocess.run([RUNNER, source, target], check=True, env=os.environ | {"FILO_DEFORM": kernels})
    return torch.load(target, weights_only=True)


def compare(kernel, dtype, spread, modulated, folder):
    torch.manual_seed(11)
    kh, kw = kernel
    x = torch.randn(2, 9, 8, 40, dtype=dtype)
    weight = torch.randn(12, 40, kh, kw, dtype=dtype) * 0.1
    offset = torch.randn(2, 2 * kh * kw, 9, 8, dtype=dtype) * spread
    if spread >= 1:
        offset[:, :, 0] *= 100  # far outside
    pull = torch.randn(2, 9, 8, 12, dtype=dtype)
    mask = torch.rand(2, kh * kw, 9, 8, dtype=dtype) if modulated else None
    wanted = reference(x, weight, offset, pull, mask)
    # Where this CPU has only one of the two ways in float32, both runs take it.
    for kernels in ["columns", ""] if dtype == torch.float32 else [""]:
        found = ours([x, weight, offset, pull] + ([mask] if modulated else []), folder, kernels)
        check(found, wanted, dtype, f"kernel {kernel} {dtype} spread {spread} mask {modulated} {kernels}")


def check(found, wanted, dtype, case):
    assert len(found) == len(wanted)
    for name, a, b in zip(["output", "input", "weight", "offset", "mask"], found, wanted):
        error = ((a - b).norm() / b.norm().clamp_min(1e-30)).item()
        assert a.dtype == dtype and a.shape == b.shape, (name, a.dtype, a.shape)
        assert error < TOLERANCE[dtype], f"{case}: {name}: {error:.2e}"
        worst[dtype] = max(worst[dtype], error)


worst = {dtype: 0.0 for dtype in TOLERANCE}
with tempfile.TemporaryDirectory() as folder:
    # Spread 0: as initialised, every sample on a pixel, where the slope's side matters.
    for case in itertools.product([(1, 1), (3, 3), (7, 7), (1, 5), (5, 1)], TOLERANCE, [0.0, 0.4, 3.0], [False, True]):
        compare(*case, folder)
print("deform_conv2d equals torchvision's; largest relative differences:", worst)
