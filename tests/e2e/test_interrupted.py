"""`smd up` may be interrupted at any moment and repeated; `smd down` leaves nothing."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.running import ROOT, RunningStack, run

pytestmark = pytest.mark.e2e

STACK = """\
name: {name}
domain: sip.example.org
pools:
  kamailio: {{replicas: 1}}
  coturn: {{replicas: 1}}
"""


@pytest.fixture
def small(stack: RunningStack) -> Iterator[RunningStack]:
    """A small stack of its own, not up yet."""
    stack_file: Path = ROOT / "artifacts" / "e2e" / "interrupted" / "stack.yaml"
    stack_file.parent.mkdir(parents=True, exist_ok=True)
    stack_file.write_text(STACK.format(name=f"{stack.name}int"))
    running = RunningStack(f"{stack.name}int", stack_file, stack.test_image)
    try:
        yield running
    finally:
        running.smd("down")


def _interrupt(stack: RunningStack, word: str) -> tuple[int, str]:
    """Bring it up and press Ctrl-C when a line with ``word`` is printed; exit code and output."""
    process = subprocess.Popen(
        # Of a job in the background, a shell's children ignore Ctrl-C from their start.
        ["env", "--default-signal=INT", *stack.command("up")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            process.send_signal(signal.SIGINT)
    return process.wait(60), "".join(said)


def test_up_can_be_interrupted_and_repeated_and_down_leaves_nothing(small: RunningStack) -> None:
    for word in ("network", "starting it", "kamailio-0: booting", "gateway-0: booting"):
        code, said = _interrupt(small, word)
        assert word in said, said
        assert code == 130, said
        assert "Traceback" not in said
    print(small.smd("up"))
    assert small.wait_whole()["whole"]
    small.smd("down")
    label = f"label=smd.stack={small.name}"
    assert run("docker", "ps", "-aq", "--filter", label) == ""
    assert run("docker", "network", "ls", "-q", "--filter", label) == ""
    small.smd("down")
