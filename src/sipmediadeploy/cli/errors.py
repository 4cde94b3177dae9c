"""What the user is told when something can't be done, and with which exit code the command ends."""

from __future__ import annotations

USER_ERROR = 2
INTERRUPTED = 130


class CommandError(Exception):
    """A command can't do what was asked. The message is complete: what, on what, what to do."""


def is_user_error(error: BaseException) -> bool:
    """Whether ``error`` is one that the user can do something about, so that its message says all.

    The classes are compared by name, so that no module is loaded only to be asked for its error.
    """
    names = {"CommandError", "StackError", "ProviderError", "ImageError", "AgentError"}
    return any(
        cls.__name__ in names and cls.__module__.startswith("sipmediadeploy.") for cls in type(error).__mro__
    )
