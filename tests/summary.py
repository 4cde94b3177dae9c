"""Adds up what several test runners wrote (JUnit XML): ``N passed, N failed, N skipped``."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

_REASON = 300
"""So many characters of a reason are printed."""


def main(paths: list[Path]) -> int:
    """Print skipped and failed tests with their reasons, then the line. 1 when a test failed or none ran."""
    passed = skipped = 0
    failures: list[str] = []
    for path in paths:
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            name = f"{case.get('classname')}.{case.get('name')}"
            wrong = [one for kind in ("failure", "error") for one in case.findall(kind)]
            if wrong:
                said = " ".join((wrong[0].get("message") or "no reason given").split())
                failures.append(f"failed: {name}: {said[:_REASON]}")
            elif (reason := case.find("skipped")) is not None:
                skipped += 1
                print(f"skipped: {name}: {reason.get('message')}")
            else:
                passed += 1
    print("\n".join([*failures, f"{passed} passed, {len(failures)} failed, {skipped} skipped"]))
    return 1 if failures or not passed else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
