"""The resource options the programs use, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi


def kept(*, after: Sequence[pulumi.Resource] = (), ending: bool = False) -> pulumi.ResourceOptions:
    """Of the vault: `destroy` is refused, and what leaves the declaration stays where it is.

    `ending` is the word of `dr vault destroy`: nothing is protected any more.
    """
    return pulumi.ResourceOptions(protect=not ending, retain_on_delete=not ending, depends_on=list(after))


def named(
    *,
    after: Sequence[pulumi.Resource] = (),
    replaced_with: Sequence[pulumi.Resource] = (),
    replaced_by: Sequence[str] = (),
    parent: pulumi.Resource | None = None,
) -> pulumi.ResourceOptions:
    """Of site and run: a name is taken until its holder is gone, so a replacement deletes first.

    `replaced_with` names what this resource is built from: when that is replaced, this one goes before it and comes
    back after it. A mere dependency would leave it standing on what is no longer there. `replaced_by` names the
    properties that Azure refuses to change, where the plugin does not know it.
    """
    return pulumi.ResourceOptions(
        delete_before_replace=True,
        depends_on=list(after),
        replace_with=list(replaced_with) or None,
        replace_on_changes=list(replaced_by) or None,
        parent=parent,
    )
