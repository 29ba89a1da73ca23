"""`dr revoke`: lock out a server, a process server, the operator, or whoever holds one certificate."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from dr.plain import plain


@click.command()
@click.argument("what", metavar="SERVER|SERIAL")
@click.option("--reason", default="revoked by hand", show_default=True, help="Why; `dr status` shows it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def revoke(what: str, reason: str, *, as_json: bool) -> None:
    """Let a certificate be refused from now on, and end the connections that were made with it.

    SERVER locks out a server's agent (or a process server, or the operator, whose name is "site") with all
    certificates and tokens that it was given; SERIAL is one certificate, as `openssl x509 -noout -serial` prints it,
    with all that it was renewed from and to, or the issuing authority with all that it signed. The operator's own
    certificate on the site's machine is made anew by `dr serve`, with another key.
    The running `dr serve` follows within a second, process servers on other machines as soon. A protected server comes
    back with a new key by `pulumi up --refresh` of the site stack. To be run on the site's machine.

    \b
    Examples:
      dr revoke shop1 --reason "the disk was stolen"
      dr revoke 5F3A9C0D1E2B4A67
    """
    from dr.certificates.site import SiteCertificates  # noqa: PLC0415 - loads cryptography
    from dr.target.folders import Folders  # noqa: PLC0415

    revoked = SiteCertificates(Folders.from_environment().site).revoke(what, reason)
    if as_json:
        listed = [{"serial": each.serial, "role": each.role, "name": each.name} for each in revoked]
        click.echo(json.dumps({"revoked": listed, "reason": reason}))
        return
    for each in revoked:
        until = datetime.fromtimestamp(each.until, UTC)
        click.echo(plain(f"revoked {each.serial}  {each.role} {each.name}  which was good until {until:%F %H:%M} UTC"))
