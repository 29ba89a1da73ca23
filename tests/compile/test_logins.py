"""How a recovered server is logged in to: by its own user and keys, and through nothing that stood at the site."""

from __future__ import annotations

from dr import compile as compiler
from dr.model import SecretReference
from tests.declaration.test_whole import declared, whole


def test_nothing_of_the_site_is_on_the_way() -> None:
    run = compiler.failover(declared(whole()), "shop", "r1", "latest", "11111111-2222-3333-4444-555555555555")
    (check,) = [check for check in run.groups[1].checks if check.kind == "ssh"]
    assert check.ssh is not None
    assert (check.ssh.address, check.ssh.port, check.ssh.user) == ("10.20.1.10", 22, "dradmin")
    assert (check.ssh.jump, check.ssh.sudo_password) == (None, None), "a check is the user's own"
    (warm_up,) = run.groups[0].after
    assert warm_up.ssh is not None
    assert (warm_up.ssh.address, warm_up.ssh.jump) == ("10.20.2.10", None)
    assert warm_up.ssh.password == SecretReference(env="DB1_PASSWORD")
