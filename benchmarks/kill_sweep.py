"""A sweep that is killed again and again ends with the same table: `python -m benchmarks.kill_sweep`.

Runs a small sweep undisturbed; then the same sweep in another folder, killed with SIGKILL after a random time and
restarted, until it was killed often enough; then to its end. Maps, accuracies and tables must be the same, bit by bit.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SWEEP = (
    *("--eval=ROAR,KAR", "--target=planted", "--quick", "--limit-train=500", "--epochs=2", "--seeds=2"),
    *("--method=VBP,GC", "--ratios=0.3,0.7"),
)


def start(output: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "main.py", *SWEEP, f"--output-dir={output}", f"--data-dir={output / 'data'}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(output: Path) -> None:
    process = start(output)
    _out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the sweep failed: {err}")


def outcome(output: Path) -> dict[str, bytes]:
    """Return everything that must not depend on kills: maps and tables whole, and the measurements of the runs."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            del content["result"]["seconds"]
            found[name] = json.dumps(content, sort_keys=True).encode()
        elif path.suffix in (".h5", ".md", ".png") or (path.suffix == ".csv" and not path.stem.endswith("_runs")):
            found[name] = path.read_bytes()
    return found


def killed(output: Path, kills: int, seed: int, longest: float) -> list[float]:
    """Start the sweep and kill it, `kills` times; where it ends before its kill, the next kills come earlier.

    Returns:
        after how many seconds each kill came.
    """
    chance = random.Random(seed)
    moments: list[float] = []
    while len(moments) < kills:
        process, wait = start(output), chance.uniform(0.2, longest)
        time.sleep(wait)
        if process.poll() is not None:  # it was finished: the kill comes earlier the next time
            longest *= 0.8
            continue
        process.kill()
        process.communicate()
        moments.append(wait)
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        unbroken, broken = Path(scratch, "unbroken"), Path(scratch, "broken")
        started = time.perf_counter()
        finish(unbroken)
        seconds = time.perf_counter() - started
        # Spread over the whole of the work: each life gets a share of it, and imports for nothing.
        moments = killed(broken, options.kills, options.seed, longest=2 * seconds / options.kills + 8)
        runs = len(list((broken / "results" / "runs").glob("*.json")))
        finish(broken)
        want, got = outcome(unbroken), outcome(broken)
        different = sorted(name for name in want.keys() | got.keys() if want.get(name) != got.get(name))
        left = [path.name for path in broken.rglob("*") if "unfinished" in path.name or ".parts" in path.name]
        print(f"undisturbed: {seconds:.0f} s; {len(moments)} kills after {min(moments):.1f} to {max(moments):.1f} s")
        print(f"{runs} runs were finished at the last kill; {len(want)} files compared, {len(different)} differ")
        if left:
            print(f"left behind, and never read: {', '.join(left)}")
        if different:
            raise SystemExit(f"different: {', '.join(different)}")


if __name__ == "__main__":
    main()
