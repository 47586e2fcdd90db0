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


def main(tiers: list[str]) -> int:
    """Runs each tier; returns the exit code for the process."""
    failed: list[str] = []
    for tier in tiers:
        missing = missing_for(tier)
        if missing is not None:
            print(f"== {tier}: did not run, needs {missing}", flush=True)
            continue
        print(f"== {tier}", flush=True)
        limit = "3600" if tier == "soak" else "600"
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-m", tier, "--timeout", limit, "-p", "no:cacheprovider"],
            capture_output=True,
            text=True,
            check=False,
        )
        print(run.stdout[-6000:], run.stderr[-2000:], flush=True)
        passed = re.search(r"(\d+) passed", run.stdout)
        if run.returncode != 0 or passed is None:
            failed.append(tier)
            print(f"== {tier}: {'failed' if passed else 'collected nothing that passed'}", flush=True)
    if failed:
        print("failed tiers: " + ", ".join(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
