"""The agent's certificate: from a token to its first one, renewal, revocation, and what it says when it has none."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import config as agent_config
from agent.link import Link, Tls
from agent.renewal import Renewal
from dr.certificates import authority
from dr.certificates.lifetime import holding
from dr.certificates.site import SiteCertificates
from dr.errors import Unreachable
from tests.agent.protected import MIB, Protected, wait_for
from tests.agent.whole_site import SERVER, SITE, Site


@pytest.fixture
def certificates(site: Site) -> SiteCertificates:
    return SiteCertificates(site.folder)


def settings(site: Site, folder: Path) -> agent_config.Config:
    """What a server is told; it has neither key nor certificate nor token."""
    folder.mkdir(exist_ok=True)
    server = Protected(folder / "server", site)
    document = server.config()
    document["hardware"]["disks"] = {}
    document["tls"] = {
        "ca": str(site.files.ca),
        "cert": str(folder / "agent.crt"),
        "key": str(folder / "agent.key"),
        "token": str(folder / "token.pem"),
    }
    return agent_config.parse(document)


def renewal(config: agent_config.Config) -> tuple[Renewal, Tls]:
    tls = Tls(config.ca, config.certificate, config.key)
    return Renewal(config, tls), tls


def heartbeat(config: agent_config.Config, tls: Tls) -> int:
    link = Link(config.configuration_server, tls)
    try:
        return link.request("POST", f"/v1/agents/{SERVER}/heartbeat", {}, seconds=10).status
    finally:
        link.close()


def give(certificates: SiteCertificates, config: agent_config.Config, *, age_days: float) -> None:
    """Give the agent a certificate that was issued some time ago."""
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", config.key],
        check=True,
    )
    request = subprocess.run(
        ["openssl", "req", "-new", "-key", config.key, "-subj", "/CN=x"], check=True, capture_output=True
    ).stdout
    then = datetime.now(UTC) - timedelta(days=age_days)
    chain = authority.sign_key(
        certificates.issuing().authority,
        authority.requested_key(request),
        uri=authority.identity_uri(SITE, "agent", SERVER),
        days=7,
        now=then,
    )
    Path(config.certificate).write_bytes(chain)


def test_a_token_becomes_a_certificate_and_goes(site: Site, certificates: SiteCertificates, tmp_path: Path) -> None:
    config = settings(site, tmp_path / "tls")
    keeper, tls = renewal(config)
    keeper._look()
    assert keeper.reason is not None
    assert keeper.reason.code == "not-enrolled"
    with pytest.raises(Unreachable, match="no usable certificate"):
        heartbeat(config, tls)

    Path(config.token).write_bytes(certificates.token(SERVER))
    keeper._look()
    assert keeper.reason is None
    assert not Path(config.token).exists()
    assert Path(config.key).stat().st_mode & 0o777 == 0o600
    assert heartbeat(config, tls) == 400, "let in, and its empty status refused"
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {"agent.crt", "agent.key", "server"}


def test_a_token_that_was_used_is_refused_by_name(site: Site, certificates: SiteCertificates, tmp_path: Path) -> None:
    token = certificates.token(SERVER)
    for name in ("first", "second"):
        config = settings(site, tmp_path / name)
        Path(config.token).write_bytes(token)
        keeper, _ = renewal(config)
        keeper._look()
    assert keeper.reason is not None
    assert keeper.reason.code == "not-enrolled"
    assert "token-used" in keeper.reason.message
    assert not Path(config.token).exists(), "it is dead for good"
    keeper._look()
    assert "token-used" in keeper.reason.message, "and stays named"
    Path(config.token).write_bytes(certificates.token(SERVER))
    keeper._look()
    assert keeper.reason is None, "another token is tried at once"


def test_it_renews_at_half_of_its_life_and_opens_its_connections_again(
    site: Site, certificates: SiteCertificates, tmp_path: Path
) -> None:
    config = settings(site, tmp_path / "tls")
    give(certificates, config, age_days=3.0)
    keeper, tls = renewal(config)
    before, key = Path(config.certificate).read_bytes(), Path(config.key).read_bytes()
    keeper._look()
    assert Path(config.certificate).read_bytes() == before
    give(certificates, config, age_days=4.3)
    before, key = Path(config.certificate).read_bytes(), Path(config.key).read_bytes()
    link = Link(config.configuration_server, tls)
    path = f"/v1/agents/{SERVER}/heartbeat"
    assert link.request("POST", path, {}, seconds=10).status == 400
    first = link.open()
    keeper._look()
    assert Path(config.key).read_bytes() == key
    renewed = holding(Path(config.certificate).read_bytes())
    assert renewed is not None
    assert renewed.until > datetime.now(UTC) + timedelta(days=6.9)
    assert keeper.reason is None
    assert link.request("POST", path, {}, seconds=10).status == 400
    assert link.open() is not first
    link.close()


@pytest.mark.parametrize(("age_days", "code"), [(5.0, None), (5.9, "certificate-ending"), (7.1, "certificate-ended")])
def test_what_cannot_be_renewed_is_named_in_time(
    site: Site, certificates: SiteCertificates, tmp_path: Path, age_days: float, code: str | None
) -> None:
    config = settings(site, tmp_path / "tls")
    give(certificates, config, age_days=age_days)
    (site.folder / "tls/issuing.pem").unlink()
    keeper, _ = renewal(config)
    keeper._look()
    assert (keeper.reason.code if keeper.reason else None) == code
    if code == "certificate-ending":
        assert keeper.reason is not None
        assert "issuing-missing" in keeper.reason.message


def test_a_dead_token_does_not_keep_a_good_certificate_from_being_renewed(
    site: Site, certificates: SiteCertificates, tmp_path: Path
) -> None:
    config = settings(site, tmp_path / "tls")
    give(certificates, config, age_days=4.3)
    before = Path(config.certificate).read_bytes()
    ended = authority.issue(
        certificates.issuing().authority,
        uri=authority.identity_uri(SITE, authority.ENROLMENT, SERVER),
        days=1 / 24,
        now=datetime.now(UTC) - timedelta(hours=3),
    )
    Path(config.token).write_bytes(ended[1] + ended[0])
    keeper, _ = renewal(config)
    keeper._look()
    assert Path(config.certificate).read_bytes() != before
    assert not Path(config.token).exists()
    assert keeper.reason is not None
    assert keeper.reason.code == "token-failed"


def test_a_token_that_fails_beside_a_good_certificate_is_named_at_once(
    site: Site, certificates: SiteCertificates, tmp_path: Path
) -> None:
    config = settings(site, tmp_path / "tls")
    give(certificates, config, age_days=1)
    Path(config.token).write_bytes(certificates.token(SERVER))
    (site.folder / "tls/issuing.pem").rename(tmp_path / "away")
    keeper, _ = renewal(config)
    keeper._look()
    assert keeper.reason is not None
    assert (keeper.reason.code, "issuing-missing" in keeper.reason.message) == ("token-failed", True)
    assert Path(config.token).exists(), "it is good still"
    (tmp_path / "away").rename(site.folder / "tls/issuing.pem")
    Path(config.token).write_bytes(Path(config.token).read_bytes())  # another in the eyes of the agent: tried at once
    keeper._look()
    assert keeper.reason is None
    assert not Path(config.token).exists()


@pytest.mark.thorough
def test_an_answer_that_is_no_certificate_of_its_key_changes_nothing(
    site: Site, certificates: SiteCertificates, tmp_path: Path
) -> None:
    config = settings(site, tmp_path / "tls")
    give(certificates, config, age_days=1)
    before = Path(config.certificate).read_bytes()
    keeper, _ = renewal(config)
    other = authority.issue(certificates.issuing().authority, uri=f"lifeboat://{SITE}/agent/{SERVER}", days=7)[0]
    for answer in (other.decode(), "nonsense", "", "\u00fcmlaut \ud800"):
        with pytest.raises(Unreachable):
            keeper._keep(answer)
    assert Path(config.certificate).read_bytes() == before
    assert not Path(f"{config.certificate}.new").exists()


@pytest.mark.real
def test_an_agent_without_a_certificate_tracks_and_sends_all_when_it_has_one(
    protected: Protected, site: Site, certificates: SiteCertificates
) -> None:
    disk = protected.disk("os", 4 * MIB)
    tls = protected.folder / "tls"
    tls.mkdir()
    names = {"cert": "agent.crt", "key": "agent.key", "token": "token.pem"}
    protected.changes["tls"] = {"ca": str(site.files.ca), **{kind: str(tls / name) for kind, name in names.items()}}
    protected.start()
    wait_for("the reason", lambda: (protected.status().get("reason") or {}).get("code") == "not-enrolled")
    disk.write(65536, b"written before anybody let it in".ljust(4096))
    (tls / "token.new").write_bytes(certificates.token(SERVER))
    (tls / "token.new").rename(tls / "token.pem")
    protected.wait_drained()
    assert protected.differing_chunks() == []
    assert not (tls / "token.pem").exists()
    secret = (tls / "agent.key").read_text().splitlines()[1]
    assert secret not in protected.log.read_text() + json.dumps(protected.status())


@pytest.mark.real
def test_a_revoked_agent_is_cut_off_by_name_and_goes_on_with_a_new_certificate(
    protected: Protected, site: Site, certificates: SiteCertificates
) -> None:
    disk = protected.disk("os", 4 * MIB)
    protected.start()
    protected.wait_drained()
    held = holding(site.files.agent[0].read_bytes())
    assert held is not None
    certificates.revoke(held.serial, "stolen")
    assert site.follow_revocations(certificates) >= 2, "its connections are ended"
    disk.write(65536, b"after the revocation".ljust(4096))

    def reason() -> Any:
        return (protected.status().get("reason") or {}).get("code")

    wait_for("the name", lambda: reason() == "certificate-revoked")
    time.sleep(1)
    assert protected.differing_chunks() == [("os", 1)]
    token = site.files.agent[1].with_name("token.pem")
    site.files.agent[1].unlink()
    token.with_suffix(".new").write_bytes(certificates.token(SERVER))
    token.with_suffix(".new").rename(token)
    protected.wait_drained()
    assert protected.differing_chunks() == []
    wait_for("nothing wrong in the status, which is written once a second", lambda: reason() is None)
