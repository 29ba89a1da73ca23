"""Plays agent and configuration server where a test has neither: exchanges the token that an installation left."""

from __future__ import annotations

from collections.abc import Callable

from dr.certificates.site import SiteCertificates
from dr.push import layout
from tests.certificates.holders import peer_of

REQUEST = (
    r"printf '[req]\ndistinguished_name=dn\n[dn]\n' | "
    f"openssl req -new -sha256 -key {layout.KEY} -subj /CN=lifeboat-agent -config /dev/stdin"
)


def enrol(shell: Callable[[str], str], certificates: SiteCertificates, server: str = "shop1") -> None:
    """Give the server the certificate that its token stands for; `shell` runs a script there as root."""
    token = shell(f"cat {layout.TOKEN}").encode()
    chain = certificates.certify(peer_of(token), shell(REQUEST).encode(), [server])
    shell(
        f"printf '%s' '{chain.decode()}' >{layout.CERTIFICATE} && chmod 644 {layout.CERTIFICATE} && rm {layout.TOKEN}"
    )
