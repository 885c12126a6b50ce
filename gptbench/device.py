"""Devices and their peaks: what a datasheet promises, and which row a driver's name means.

The table is `presets/devices.csv`. Every peak is dense and, for tensor formats, with float32
accumulation, the only rate that `torch.matmul` normally reaches. An unknown peak is None: never a
guess, never another device's.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptbench.errors import QuestionError, UnknownNameError

_HERE = Path(__file__).parent
TABLE = next(
    p for p in (_HERE / "_presets/devices.csv", _HERE.parent / "presets/devices.csv") if p.is_file()
)

# Column of the table -> the dtype whose matrix products it bounds.
PEAK_COLUMNS = {
    "fp64_tflops": "float64",
    "fp32_tflops": "float32",
    "tf32_tflops": "tf32",
    "fp16_tflops": "float16",
    "bf16_tflops": "bfloat16",
    "fp8_tflops": "float8",
    "fp4_tflops": "float4",
    "int8_tops": "int8",
}
# Names that hold a full card's name and are less than it: slices, notebook parts, and the virtual
# GPUs of NVIDIA's vGPU profiles ('GRID T4-4Q', 'NVIDIA A40-48C').
_PART = re.compile(r"\bMIG\b|Laptop|Max-Q(?! Workstation)|Mobile|-[0-9]+[ABCQ]\b", re.IGNORECASE)

REQUIRED_COLUMNS = ("device_id", "marketing_name", "name_regex")


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that matrix products in one dtype can do, and who says so."""

    flops_per_s: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One row of the table: one device as torch shows it.

    `confidence` is how sure the tensor peaks are: A vendor's text, B independent tables that cite
    it, C derived from clock and rate, D press. `boosts` marks cards that run above their stated
    clock and so, honestly, above their peak.

    `memory_bytes` is the vendor's figure, whose GB is taken for 10⁹ bytes; `usable_bytes` is what
    torch shows as the total, from a column of the table, or as `usable` has it.
    """

    id: str
    name: str
    vendor: str
    architecture: str
    capability: str  # '8.0', or of AMD's 'gfx942'; empty where it is not known
    memory_bytes: int | None
    usable_bytes: int | None
    bandwidth_bytes_per_s: float | None
    peaks: dict[str, Peak] = field(default_factory=dict)
    confidence: str
    note: str
    units: int | None  # streaming multiprocessors or compute units
    pattern: str

    @property
    def boosts(self) -> bool:
        return "GeForce" in self.name or "TITAN" in self.name


def table(extra: Path | None = None) -> tuple[Device, ...]:
    """Every device of the table, after those of the user's own CSV, which replace rows by id.

    Raises QuestionError that names file, line and column of a value that does not read.
    """
    own = _read(extra) if extra is not None else ()
    replaced = {d.id for d in own}
    return (*own, *(d for d in _read(TABLE) if d.id not in replaced))


def match(name: str, units: int | None, devices: Iterable[Device]) -> Device | None:
    """The one device that a driver's name means, or None where it means none for sure.

    `units` is the multiprocessor count as the driver reports it (None: not known). It tells
    MIG slices and cut-down parts, which carry the full part's name, from the part itself.
    """
    if _PART.search(name):
        return None
    found = [
        d
        for d in devices
        if d.pattern
        and re.search(d.pattern, name, re.IGNORECASE)
        and (units is None or d.units is None or d.units == units)
    ]
    return found[0] if len(found) == 1 else None


def find(text: str, devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """The devices that a person meant: an id, a short name (all its variants), a driver's name.

    Raises UnknownNameError with the nearest ids and short names.
    """
    wanted = text.strip().lower()
    exact = tuple(d for d in devices if d.id.lower() == wanted)
    if exact:
        return exact[:1]
    variants = tuple(d for d in devices if f"{d.id.lower()}-".startswith(f"{_dashed(wanted)}-"))
    if variants:
        return variants
    reported = match(text, None, devices)
    if reported is not None:
        return (reported,)
    names = dict.fromkeys(name for d in devices for name in (d.id.split("-")[0], d.id))
    raise UnknownNameError(
        "GPU", text, names, "'gptbench gpus' shows the table; --devices FILE adds rows to it."
    )


def _dashed(text: str) -> str:
    """'RTX 4090' -> 'rtx-4090': ids are written with dashes."""
    return re.sub(r"[\s_]+", "-", text)


def _read(path: Path) -> tuple[Device, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [c for c in REQUIRED_COLUMNS if c not in (rows.fieldnames or ())]
            if missing:
                raise QuestionError(
                    f"{path}: the column {missing[0]!r} is missing. A device table begins with "
                    f"{','.join(REQUIRED_COLUMNS)},bf16_tflops,..."
                )
            return tuple(_device(path, rows.line_num, row) for row in rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise QuestionError(f"cannot read the device table '{path}': {reason}.") from error


def _device(path: Path, line: int, row: dict[str, str]) -> Device:
    def number(column: str, factor: float) -> float | None:
        text = (row.get(column) or "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e9:
            raise QuestionError(f"{path}:{line}: {column} = {text!r} is not a positive number.")
        # 66.9 · 10¹² in binary is off by one part in 10¹⁶, and looks it when printed.
        return float(round(value * factor))

    if not row["device_id"]:
        raise QuestionError(f"{path}:{line}: device_id is empty. Type a short name for the row.")
    pattern = row.get("name_regex") or ""
    try:
        re.compile(pattern)
    except re.error as error:
        raise QuestionError(f"{path}:{line}: name_regex {pattern!r}: {error}.") from error
    source = row.get("source") or f"{path.name}, line {line}"
    peaks = {
        dtype: Peak(flops_per_s=rate, source=source)
        for column, dtype in PEAK_COLUMNS.items()
        if (rate := number(column, 1e12)) is not None
    }
    memory, units = number("memory_gb", 1e9), number("sm_or_cu_count", 1)
    vendor, seen = row.get("vendor") or "", number("usable_gib", 1 << 30)
    return Device(
        id=row["device_id"],
        name=row["marketing_name"] or row["device_id"],
        vendor=vendor,
        architecture=row.get("architecture") or "",
        capability=row.get("compute_capability") or "",
        memory_bytes=None if memory is None else round(memory),
        usable_bytes=round(seen) if seen is not None else usable(memory, vendor),
        bandwidth_bytes_per_s=number("memory_bandwidth_gbs", 1e9),
        peaks=peaks,
        confidence=row.get("verification") or "user",
        note=row.get("confidence_note") or "",
        units=None if units is None else round(units),
        pattern=pattern,
    )


def usable(memory_bytes: float | None, vendor: str) -> int | None:
    """What torch shows of a vendor's 'GB', which of NVIDIA's and AMD's chips are GiB.

    NVIDIA's driver keeps a hundredth of it and 0.45 GiB, AMD's a hundredth at the most: a little
    more than is missing from the totals in tests/test_room.py. Of others nothing is known, and a GB
    is 10⁹ bytes.
    """
    if memory_bytes is None:
        return None
    gigabytes = memory_bytes / 1e9
    if vendor == "NVIDIA":
        return round((0.99 * gigabytes - 0.45) * (1 << 30))
    return round(0.99 * gigabytes * (1 << 30)) if vendor == "AMD" else round(memory_bytes)


def document(device: Device) -> dict[str, Any]:
    """A device under the keys that `gptbench gpus --format json` publishes."""
    return {
        "id": device.id,
        "name": device.name,
        "vendor": device.vendor,
        "architecture": device.architecture,
        "memory_bytes": device.memory_bytes,
        "bandwidth_bytes_per_s": device.bandwidth_bytes_per_s,
        "peaks": {
            dtype: {"flops_per_s": peak.flops_per_s, "source": peak.source}
            for dtype, peak in device.peaks.items()
        },
        "confidence": device.confidence,
        "note": device.note,
    }
