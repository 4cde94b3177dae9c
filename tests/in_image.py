"""Runs pytest inside the image of the test tools, so that a host needs neither GStreamer nor Kamailio.

Usage: python -m tests.in_image RESULTS.xml [pytest arguments]; without arguments it makes the images only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sipmediadeploy.images.application import build_application
from sipmediadeploy.images.build import ensure_images, ensure_test_image
from sipmediadeploy.images.inputs import images_version
from sipmediadeploy.images.web import build_page
from sipmediadeploy.providers.docker.engine import ensure_engine

ROOT = Path(__file__).resolve().parents[1]
_SIDE_BY_SIDE = 3
"""So many files at once, on two cores: most tests wait, for a time limit or for media to pass."""
_PYTHON = "/src/tests/own_network"


def build_images() -> str:
    """Make what is missing of the product's images and that of the test tools; the name of the last.

    Here, and not within the time limit of the first test that needs them.
    """
    client = ensure_engine(print)
    ensure_images(client, print)
    return ensure_test_image(client, print)


def main(results: Path, arguments: list[str]) -> int:
    """Run pytest; its exit code."""
    image = build_images()
    results.parent.mkdir(parents=True, exist_ok=True)
    cache = ROOT / ".cache" / "images"
    application = build_application(ROOT, cache, images_version(ROOT))
    mounts = {
        ROOT: "/src:ro",
        # For its entry points; the code comes from the checkout.
        application: "/opt/test/application:ro",
        build_page(ROOT, cache): "/opt/test/page:ro",
        results.parent.absolute(): "/results",
    }
    environment = {
        "PYTHONPATH": "/src/src:/src:/opt/test/application:/opt/test/site-packages",
        "PYTHONPYCACHEPREFIX": "/tmp/bytecode",  # or each process of a test compiles everything anew
        "HOME": "/tmp",
        "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
        "SMD_TEST_PAGE": "/opt/test/page",
        "SMD_TEST_BROWSER": "/opt/browser",
    }
    # Tests make network namespaces, veth pairs and addresses of their own; all of it goes with the container,
    # whose own network is not used: pytest and each of its workers have one of their own.
    words = ["docker", "run", "--rm", "--init", "--shm-size", "512m", "--cap-add", "SYS_ADMIN"]
    words += ["--cap-add", "NET_ADMIN", "--security-opt", "seccomp=unconfined"]
    words += ["--security-opt", "apparmor=unconfined", "--network", "none"]
    for name, value in environment.items():
        words += ["--env", f"{name}={value}"]
    for path, place in mounts.items():
        words += ["--volume", f"{path}:{place}"]
    words += ["--workdir", "/src", image, _PYTHON, "-m", "pytest", "-p", "no:cacheprovider"]
    # A file's tests one after the other, files side by side. With ``-n 0`` all are one after the other.
    words += ["--dist", "loadfile", "--tx", f"{_SIDE_BY_SIDE}*popen//python={_PYTHON}"]
    words += [f"--junitxml=/results/{results.name}", *arguments]
    return subprocess.run(words, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) == 1:
        build_images()
    else:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
