"""``smd down``: removes all that was made for the stack, and nothing else."""

from __future__ import annotations

from sipmediadeploy.cli.place import Place
from sipmediadeploy.providers.docker.engine import connect
from sipmediadeploy.providers.docker.teardown import remove_stack
from sipmediadeploy.stack import load_stack


def down(place: Place, foundation: bool) -> None:
    """Remove what the stack has; the images, the stack file and the secrets stay.

    With ``foundation`` also what it stands on where it is on OpenStack, which else is Terraform's.
    """
    stack = load_stack(place.stack_file)
    if stack.openstack is not None:
        from sipmediadeploy.cli.bootstrap import remove

        remove(place, stack, foundation)
        return
    with place.locked():
        removed = remove_stack(connect(), stack.name, lambda line: print(line, flush=True))
    print(f"The stack {stack.name} is down." if removed else f"The stack {stack.name} was not up.")
