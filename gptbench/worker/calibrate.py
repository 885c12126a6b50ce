"""What matrix products reach on this very device."""

import statistics
import time

import torch

# Side lengths of the square products: large enough that no start-up cost is left, small enough
# that a CPU does one in a second or two.
SIDES = {"cpu": (1024, 2048, 3072), "cuda": (4096, 8192, 16384)}
ROUNDS = 3
ROUND_S = 0.25


def matmul_peak(device: torch.device, dtype: str) -> tuple[float, str]:
    """The best rate of large square products in `dtype` as FLOP/s, and the shape that reached it.

    Rounds over the shapes take turns, and a shape's rate is the median of its rounds, so that one
    quiet moment of a shared machine does not decide.
    """
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    torch_dtype = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    sides = SIDES[device.type]
    rates: dict[int, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side in sides:
            rates[side].append(_rate(device, torch_dtype, side))
    median = {side: statistics.median(rates[side]) for side in sides}
    best = max(sides, key=median.__getitem__)
    return median[best], f"{best}×{best}×{best}"


def expected_s(device: torch.device) -> float:
    """About how long `matmul_peak` takes, for a progress bar."""
    return ROUNDS * len(SIDES[device.type]) * 2 * ROUND_S


def _rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    # Random numbers, not zeros: zeros switch fewer transistors and run up to 13% faster.
    a = torch.randn(side, side, device=device).to(dtype)
    b = (torch.randn(side, side, device=device) / side**0.5).to(dtype)
    out = torch.empty(side, side, device=device, dtype=dtype)
    torch.mm(a, b, out=out)
    _wait(device)
    began = time.perf_counter()
    products = 0
    while products == 0 or time.perf_counter() - began < ROUND_S:
        torch.mm(a, b, out=out)
        products += 1
        _wait(device)
    return products * 2 * side**3 / (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
