"""How a provider's failure reaches the person at `pulumi up`: one line, a remedy, never a traceback.

Secrets: the engine prints these texts unfiltered, so nobody may put a secret value into an error's message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi.provider.experimental.property_value import PropertyValue

from dr.errors import LifeboatError
from dr.plain import plain

Properties = Mapping[str, PropertyValue]


class PartlyCreated(LifeboatError):
    """The resource exists and is not well; the state keeps id and outputs, and the next `up` calls `update`.

    Raise it from `create` and `update` (and only there). Dependents are not started.
    """

    code = "partly-created"

    def __init__(
        self, resource_id: str, outputs: Properties, inputs: Properties, reasons: Sequence[str], *, remedy: str = ""
    ) -> None:
        super().__init__("; ".join(reasons), remedy=remedy)
        self.resource_id = resource_id
        self.outputs = dict(outputs)
        self.inputs = dict(inputs)
        self.reasons = list(reasons)


def one_line(error: BaseException) -> str:
    """Return the text that a person sees for `error`."""
    if isinstance(error, LifeboatError):
        apart = "\n" if "\n" in error.message else " "
        remedy = f"{apart}(remedy: {error.remedy})" if error.remedy else ""
        return plain(f"{error.message}{remedy}")
    return plain(f"unexpected {type(error).__name__}: {error}")
