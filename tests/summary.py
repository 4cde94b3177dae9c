"""Adds up what several test runners wrote (JUnit XML): ``N passed, N failed, N skipped``."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def main(paths: list[Path]) -> int:
    """Print skipped tests with their reasons, then the line. 1 when a test failed or none ran."""
    passed = failed = skipped = 0
    for path in paths:
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif (reason := case.find("skipped")) is not None:
                skipped += 1
                print(f"skipped: {case.get('classname')}.{case.get('name')}: {reason.get('message')}")
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
