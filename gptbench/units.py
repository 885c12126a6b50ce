"""Numbers to text and back: the only place that knows a prefix.

Counts, rates and bandwidths take decimal prefixes (1 TFLOP/s = 10¹² FLOP/s); memory takes binary
ones and says so (1 GiB = 2³⁰ bytes). Data elsewhere is in base units: FLOPs, FLOP/s, bytes,
seconds, fractions from 0 to 1.
"""

import math
import re
import sys

from gptbench.errors import QuestionError

SI = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
# Prefixes of counts as this field writes them: 300B tokens are 300 billion.
COUNTS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
BINARY = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

TIMES = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

# Rates and counts outside of these are slips, and their products no numbers any more.
TINIEST, HUGEST = 1e-9, 1e30

_NUMBER = r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*"
_BYTES = re.compile(_NUMBER + r"([KMGT]i?)?B?\s*", re.IGNORECASE | re.ASCII)
_COUNT = re.compile(_NUMBER + r"([KMBGT])?\s*", re.IGNORECASE | re.ASCII)
_FRACTION = re.compile(_NUMBER + r"(%)?\s*", re.ASCII)
_TIME = re.compile(_NUMBER + r"(ms|s|sec|m|min|h)?\s*", re.ASCII)
_RATE = re.compile(_NUMBER + r"([kMGTPE])?FLOPS?(?:/s)?\s*", re.IGNORECASE | re.ASCII)


def parse_bytes(text: str) -> int:
    """Bytes of '2GiB', '500 MB', '4g' or a bare number; 'G' and 'GiB' are both 2³⁰.

    A limit typed as '2G' means what the tools of this field mean by it, the binary unit; only
    'GB' spelled out is decimal. Raises QuestionError for anything else, and for nothing at all.
    """
    match = _BYTES.fullmatch(text)
    # Below the end of floats by the largest prefix, so that none takes the number over it.
    if match is None or float(match[1]) > sys.float_info.max / BINARY["Ti"]:
        raise QuestionError(f"{text!r} is not a size. Type one such as 2GiB, 500MB or 1.5G.")
    prefix = (match[2] or "").upper().replace("I", "i")
    decimal = text.strip().upper().endswith("B") and prefix and not prefix.endswith("i")
    factor = SI[prefix.replace("K", "k")] if decimal else BINARY[prefix and prefix[0] + "i"]
    size = int(float(match[1]) * factor)
    if size < 1:
        raise QuestionError(f"{text!r} is no memory at all. Type a size such as 2GiB.")
    return size


def parse_flops_per_s(text: str) -> float:
    """FLOP/s of '125TFLOP/s', '1.5 PFLOPS' or '9.3e12 FLOP/s'. Raises QuestionError otherwise."""
    match = _RATE.fullmatch(text)
    if match is None or not TINIEST <= float(match[1]) <= HUGEST:
        raise QuestionError(f"{text!r} is not a peak rate. Type one such as 125TFLOP/s.")
    prefix = match[2] or ""
    return float(match[1]) * SI["k" if prefix in "kK" and prefix else prefix.upper()]


def parse_count(text: str) -> float:
    """How many are '300B', '1.5T', '868k' or '1e9'. Raises QuestionError otherwise."""
    match = _COUNT.fullmatch(text.replace(",", ""))
    if match is None or not TINIEST <= float(match[1]) <= HUGEST:
        raise QuestionError(f"{text!r} is not a number of tokens. Type one such as 868k or 300B.")
    return float(match[1]) * COUNTS[(match[2] or "").upper()]


def parse_fraction(text: str) -> float:
    """The fraction of '0.45' or '45%', over 0 and at most 1. Raises QuestionError otherwise."""
    match = _FRACTION.fullmatch(text)
    value = 0.0 if match is None else float(match[1]) / (100 if match[2] else 1)
    if not TINIEST <= value <= 1:
        raise QuestionError(f"{text!r} is not a share of 1. Type one such as 0.45 or 45%.")
    return value


def parse_seconds(text: str) -> float:
    """Seconds of '60s', '500ms', '2m', '1.5h' or a bare number. Raises QuestionError otherwise."""
    match = _TIME.fullmatch(text)
    time_s = 0.0 if match is None else float(match[1]) * TIMES[match[2] or "s"]
    if not TINIEST <= time_s <= HUGEST:
        raise QuestionError(f"{text!r} is not a time. Type one such as 60s, 5m or 1.5h.")
    return time_s


def si(value: float, unit: str = "", digits: int = 4) -> str:
    """A count or a rate with a decimal prefix: 291648307200 -> '291.6 G' + unit."""
    if not math.isfinite(value):
        return str(value)
    prefix = max((p for p, f in SI.items() if f <= abs(value)), key=SI.__getitem__, default="")
    scaled = value / SI[prefix]
    whole = len(str(int(abs(scaled))))
    text = (
        f"{scaled:.{max(0, digits - whole)}f}" if prefix or value != int(value) else f"{value:.0f}"
    )
    return f"{text} {prefix}{unit}".rstrip()


def gib(size: float) -> str:
    """Bytes with a binary prefix: 2147483648 -> '2.00 GiB'."""
    prefix = max(
        (p for p, f in BINARY.items() if f <= abs(size)), key=BINARY.__getitem__, default=""
    )
    return f"{size / BINARY[prefix]:.2f} {prefix}B" if prefix else f"{size:.0f} B"


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage: 0.4123 -> '41.2%'."""
    return f"{100 * fraction:.{digits}f}%"


def seconds(time_s: float) -> str:
    """A duration in the unit a person would choose: 0.04183 -> '41.83 ms'."""
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if abs(time_s) < limit:
            return f"{time_s * factor:.4g} {unit}"
    return f"{time_s:.4g} s" if abs(time_s) < 1e4 else f"{time_s:.0f} s"


def joules(energy_j: float) -> str:
    """Energy in the unit a person would choose: 0.00123 -> '1.23 mJ'."""
    for limit, factor, unit in ((1e-3, 1e6, "µJ"), (1.0, 1e3, "mJ"), (1e3, 1.0, "J")):
        if abs(energy_j) < limit:
            return f"{energy_j * factor:.4g} {unit}"
    return si(energy_j, "J")


def duration(time_s: float) -> str:
    """A long time in hours or days: 345600 -> '4.00 days'."""
    for limit, name in ((86400, "days"), (3600, "hours")):
        if time_s >= limit:
            whole = len(str(int(time_s / limit)))
            return f"{time_s / limit:,.{max(0, 3 - whole)}f} {name}"
    return seconds(time_s)


def grouped(count: int) -> str:
    """A whole number with thousands apart: 124439808 -> '124,439,808'."""
    return f"{count:,}"
