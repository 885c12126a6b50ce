"""A comparison as JUnit XML, which continuous integration shows: a case a benchmark.

A regression fails, what could not run is an error, what is not known is skipped. The exit code is
what gates; the file is for people.
"""

import math
import re
from xml.etree import ElementTree as ET

from gptbench import comparison
from gptbench.comparison import Comparison, Row
from gptbench.report import comparisons

# What XML 1.0 has no way to write (its section 2.2, Char).
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(found: Comparison) -> bytes:
    """The whole file: a suite a device, a case a benchmark."""
    root = ET.Element("testsuites", name="gptbench compare")
    devices = dict.fromkeys(row.side.device for row in found.rows)
    for device in devices:
        rows = [row for row in found.rows if row.side.device == device]
        suite = ET.SubElement(root, "testsuite", name=_possible(device))
        suite.set("tests", str(len(rows)))
        suite.set("failures", _number(rows, "REGRESSED"))
        suite.set("errors", _number(rows, "FAILED"))
        suite.set("skipped", _number(rows, "INCONCLUSIVE", "INCOMPARABLE"))
        for row in rows:
            _case(suite, found, row)
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _number(rows: list[Row], *words: str) -> str:
    return str(sum(row.verdict in words for row in rows))


def _case(suite: ET.Element, found: Comparison, row: Row) -> None:
    case = ET.SubElement(suite, "testcase")
    case.set("classname", _possible(row.side.model.name))
    case.set("name", _possible(comparisons.benchmark(row)))
    if found.elapsed_s is not None:
        case.set("time", f"{found.elapsed_s:.3f}")
    if row.change is not None:
        properties = ET.SubElement(case, "properties")
        facts = {"tokens_per_s_change": row.change.log_ratio}
        if math.isfinite(row.change.high):
            facts |= {"ci_low": row.change.high, "ci_high": row.change.low}
        for name, log_ratio in facts.items():
            value = repr(comparison.in_rate(log_ratio))
            ET.SubElement(properties, "property", name=name, value=value)
    said = _possible(comparisons.sentence(found, row))
    if row.verdict == "REGRESSED":
        ET.SubElement(case, "failure", type="regression", message=said)
    elif row.verdict == "FAILED":
        ET.SubElement(case, "error", type="failed", message=said)
    elif row.verdict in ("INCONCLUSIVE", "INCOMPARABLE"):
        ET.SubElement(case, "skipped", message=said)
    ET.SubElement(case, "system-out").text = said


def _possible(text: str) -> str:
    return _IMPOSSIBLE.sub("�", text)
