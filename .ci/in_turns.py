"""Benchmarks a change against its base on one machine in turns; the parts of action.yml.

python .ci/in_turns.py checkout --base REF --into DIR
python .ci/in_turns.py measure --base DIR --new DIR --out DIR [--rounds 3] -- WORDS...
python .ci/in_turns.py judge --new DIR --out DIR [--strict]

`measure` runs 'gptbench throughput WORDS' in both checkouts, ABBA, BAAB, ABBA ..., each run into a
folder of its own: a machine that gets slower meanwhile does so for both. `judge` holds the first run of
the one to the first of the other and so on, pair by pair, writes what it finds into the summary of
the job, and ends with the exit code of the comparison.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# The gptbench beside this script, of which no more is used than Python itself can run.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from gptbench import turns

ARMS = {"A": "base", "B": "new"}

WORDS = {
    1: "a regression is established",
    3: "the comparison is inconclusive",
    5: "the results cannot be compared",
}


def order(rounds: int) -> str:
    """Whose turn it is: each round has both twice, and every second one the other way round."""
    return "".join(map(turns.order, range(rounds)))


def checkout(ref: str, into: Path) -> None:
    """The base in a folder of its own beside the checkout here; without a ref what HEAD is upon.

    A job's checkout has one commit alone: what is missing is fetched.
    """
    if ref.startswith("-"):
        sys.exit(f"'{ref}' is no name of a commit.")
    wanted, depth, commit = (ref, 1, "FETCH_HEAD") if ref else ("HEAD", 2, "FETCH_HEAD^")
    if not ref:
        wanted = _git("rev-parse", "HEAD")
    _git("fetch", "--no-tags", f"--depth={depth}", "origin", wanted)
    _git("worktree", "add", "--detach", str(into), commit)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S607 - the job's git
    if done.returncode:
        sys.exit(f"'git {' '.join(words)}' ended with status {done.returncode}.")
    return done.stdout.strip()


def measure(
    checkouts: dict[str, Path], pythons: dict[str, str], out: Path, rounds: int, words: list[str]
) -> int:
    """Run both in turns; the exit code of the first run that fails, and no run after it."""
    letters = order(rounds)
    for turn, letter in enumerate(letters):
        arm = ARMS[letter]
        number = letters[: turn + 1].count(letter)
        print(f"Run {turn + 1} of {len(letters)}: {arm}", file=sys.stderr, flush=True)
        folder = (out / arm / f"{number:02d}").resolve()
        asked = ["throughput", *words, "--out", str(folder)]
        status = _gptbench(pythons[arm], checkouts[arm], asked, checkouts[arm]).returncode
        if status:
            print(f"::error title=gptbench::the run of {arm} ended with status {status}")
            return status
    return 0


def judge(python: str, new: Path, out: Path, strict: bool) -> int:
    """Compare what was measured, put the tables into the summary; the comparison's exit code."""
    out.mkdir(parents=True, exist_ok=True)
    words = ["compare", "base", "new", "--paired", "--format", "markdown"]
    words += ["--junit", "junit.xml", "--out", "comparison", *(["--strict"] if strict else [])]
    done = _gptbench(python, new, words, out, stdout=subprocess.PIPE)
    # GitHub drops a summary of over 1 MiB whole: this Markdown is bounded far below.
    text = done.stdout.decode()
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text)
    if done.returncode:
        said = WORDS.get(done.returncode, f"the comparison ended with status {done.returncode}")
        print(f"::error title=gptbench::{said}")
    return done.returncode


def _gptbench(
    python: str, checkout: Path, words: list[str], folder: Path, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The gptbench of a checkout, or where it has none the one installed for it, run in a folder."""
    return subprocess.run(
        [python, "-m", "gptbench", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        stdout=stdout,
        check=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("checkout")
    first.add_argument("--base", default="", metavar="REF")
    first.add_argument("--into", type=Path, required=True, metavar="DIR")
    second = commands.add_parser("measure")
    second.add_argument("--base", type=Path, required=True, metavar="DIR")
    second.add_argument("--new", type=Path, required=True, metavar="DIR")
    second.add_argument("--base-python", default=sys.executable, metavar="FILE")
    second.add_argument("--new-python", default=sys.executable, metavar="FILE")
    second.add_argument("--out", type=Path, required=True, metavar="DIR")
    second.add_argument("--rounds", type=int, default=3)
    second.add_argument("words", nargs="*", metavar="WORDS")
    third = commands.add_parser("judge")
    third.add_argument("--new", type=Path, required=True, metavar="DIR")
    third.add_argument("--new-python", default=sys.executable, metavar="FILE")
    third.add_argument("--out", type=Path, required=True, metavar="DIR")
    third.add_argument("--strict", action="store_true")
    options = parser.parse_args(argv)
    if options.command == "checkout":
        checkout(options.base, options.into)
        return 0
    if options.command == "judge":
        return judge(options.new_python, options.new, options.out, options.strict)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return measure(
        {"base": options.base, "new": options.new},
        {"base": options.base_python, "new": options.new_python},
        options.out,
        options.rounds,
        options.words,
    )


if __name__ == "__main__":
    sys.exit(main())
