"""``smd token``: what Prometheus shows to scalers and agents."""

from __future__ import annotations

from sipmediadeploy.cli.place import Place
from sipmediadeploy.protocol.scaler import operator_token
from sipmediadeploy.protocol.secrets import agent_token
from sipmediadeploy.stack import load_stack


def token(place: Place, replica: str | None) -> None:
    """Print the bearer token of the scalers' API, or that of the agent of ``replica``.

    Its name may be given without the stack's.
    """
    stack, master = load_stack(place.stack_file), place.master_secret()
    if replica is None:
        print(operator_token(master))
        return
    own = f"{stack.name}-"
    print(agent_token(master, replica if replica.startswith(own) else own + replica))
