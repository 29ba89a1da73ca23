"""The certificates of a site: what `up` makes, what renews itself, tokens, revocation, and what `dr status` is told."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from dr.certificates import authority
from dr.certificates.lifetime import holding, public_pem
from dr.certificates.register import MOST_AN_HOUR, Issued, Register
from dr.certificates.site import OPERATOR, REGISTER, SERVER, SiteCertificates
from dr.config_server.certificate_states import agent_states, document, look, site_states
from dr.errors import Conflict, Corrupt, LifeboatError, NotFound, Refused, Unreachable
from tests.certificates.holders import peer_of

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
ROOT = authority.create("ca-hq", now=NOW)
ADDRESSES = ["127.0.0.1"]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(tmp_path: Path, clock: Clock) -> SiteCertificates:
    certificates = SiteCertificates(tmp_path, clock)
    certificates.prepare(ROOT, site="hq", server="ps1", addresses=ADDRESSES)
    return certificates


def request(key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def enrolled(site: SiteCertificates, server: str = "shop1") -> bytes:
    return site.certify(peer_of(site.token(server)), request(), [server])


def refusal(site: SiteCertificates, shown: bytes, wanted: bytes, servers: tuple[str, ...] = ("shop1",)) -> str:
    with pytest.raises(LifeboatError) as refused:
        site.certify(peer_of(shown), wanted, servers)
    return refused.value.code


def test_a_second_up_changes_nothing_and_other_addresses_change_the_authority(
    site: SiteCertificates, tmp_path: Path
) -> None:
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in {".crt", ".key", ".pem"}}
    assert len(files) == 6
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    site.prepare(ROOT, site="hq", server="ps1", addresses=ADDRESSES)
    assert {path: path.read_bytes() for path in files} == files
    before = site.issuing().serial
    site.prepare(ROOT, site="hq", server="ps1", addresses=[*ADDRESSES, "10.0.0.9"])
    held = site.held(SERVER)
    assert held is not None
    assert held.addresses == {"127.0.0.1", "10.0.0.9"}
    assert held.issuer == site.issuing().serial != before


def test_a_token_is_good_once_for_one_key_and_one_server(site: SiteCertificates) -> None:
    token, key = site.token("shop1"), ec.generate_private_key(ec.SECP256R1())
    assert refusal(site, token, b"nonsense") == "request-invalid"
    assert refusal(site, token, request(key), ("shop2",)) == "unknown-server"
    chain = site.certify(peer_of(token), request(key), ["shop1"])
    held = holding(chain)
    assert held is not None
    assert (held.identity.role, held.identity.name) == ("agent", "shop1")
    assert site.problem("shop1", chain, public_pem(held.certificate)) is None
    again = holding(site.certify(peer_of(token), request(key), ["shop1"]))
    assert again is not None
    assert again.serial != held.serial, "its answer was lost: the same key gets another"
    assert refusal(site, token, request()) == "token-used"


def test_a_token_ends_within_the_hour_and_is_for_clients_only(site: SiteCertificates) -> None:
    token = holding(site.token("shop1").partition(b"-----END PRIVATE KEY-----\n")[2])
    assert token is not None
    assert token.until == NOW + timedelta(hours=1)
    usage = token.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_token_that_the_register_does_not_know_is_none(site: SiteCertificates, tmp_path: Path) -> None:
    token = site.token("shop1")
    (tmp_path / "certificates.db").unlink()
    assert refusal(site, token, request()) == "token-unknown"


def test_nothing_secret_is_in_the_register(site: SiteCertificates, tmp_path: Path) -> None:
    token = site.token("shop1")
    lines = [line for line in token.splitlines() if line and not line.startswith(b"-----")]
    content = (tmp_path / "certificates.db").read_bytes()
    assert not [line for line in lines if line in content]
    assert (tmp_path / "certificates.db").stat().st_mode & 0o777 == 0o600


def test_two_who_use_a_token_at_once_get_one_certificate(site: SiteCertificates) -> None:
    token, given, refused = site.token("shop1"), [], []

    def ask() -> None:
        try:
            given.append(site.certify(peer_of(token), request(), ["shop1"]))
        except Refused as error:
            refused.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(given), refused) == (1, ["token-used"] * 5)


def test_a_holder_renews_as_what_it_is_and_not_without_end(site: SiteCertificates, clock: Clock) -> None:
    chain = enrolled(site)
    for _ in range(MOST_AN_HOUR - 1):
        chain = site.certify(peer_of(chain), request(), ["shop1"])
    with pytest.raises(Conflict) as refused:
        site.certify(peer_of(chain), request(), ["shop1"])
    assert refused.value.code == "too-many-certificates"
    clock.now += timedelta(hours=2)
    held = holding(site.certify(peer_of(chain), request(), ["shop1"]))
    assert held is not None
    assert (held.identity.name, held.until) == ("shop1", clock.now + 7 * DAY)
    assert refusal(site, chain, request(), ("shop2",)) == "unknown-server"


def test_the_sites_own_certificates_are_renewed_at_half_of_their_life_with_their_keys(
    site: SiteCertificates, clock: Clock, tmp_path: Path
) -> None:
    key = (tmp_path / "tls/server.key").read_bytes()
    assert site.renew() == []
    clock.now += 3 * DAY
    assert site.renew() == []
    clock.now += DAY
    assert site.renew() == [SERVER, OPERATOR]
    assert site.renew() == []
    assert (tmp_path / "tls/server.key").read_bytes() == key
    clock.now += 30 * DAY  # nobody served for a month
    assert site.renew() == [SERVER, OPERATOR]
    held = site.held(SERVER)
    assert held is not None
    site.revoke(held.serial, "its key was copied")
    assert site.renew() == [SERVER]
    assert (tmp_path / "tls/server.key").read_bytes() != key


def test_no_certificate_outlives_the_authority_that_signed_it(site: SiteCertificates, clock: Clock) -> None:
    clock.now += 88 * DAY
    held = holding(enrolled(site))
    assert held is not None
    assert held.until == NOW + 90 * DAY


def test_a_revoked_certificate_renews_nothing_and_its_server_starts_anew_by_a_token(site: SiteCertificates) -> None:
    chain = enrolled(site)
    held = holding(chain)
    assert held is not None
    assert {each.serial for each in site.revoke("shop1", "stolen")} >= {held.serial}
    assert refusal(site, chain, request()) == "certificate-revoked"
    assert site.problem("shop1", chain, public_pem(held.certificate)) == "it was revoked"
    after = holding(enrolled(site))
    assert after is not None
    assert after.serial not in {each.serial for each in site.register.revoked()}


def test_what_a_thief_signed_is_revoked_by_its_number_and_a_whole_authority_by_its_own(site: SiteCertificates) -> None:
    foreign = authority.issue(site.issuing().authority, uri="lifeboat://hq/agent/shop1", days=7, now=NOW)[0]
    held = holding(foreign)
    assert held is not None
    (revoked,) = site.revoke(f"{held.serial.upper()}", "signed by a thief")
    assert (revoked.serial, revoked.role) == (held.serial, "unknown")
    chain = enrolled(site)
    (revoked,) = site.revoke(site.issuing().serial, "the configuration server was broken into")
    assert revoked.role == "issuing"
    assert refusal(site, chain, request()) == "certificate-revoked"
    assert site.issuing_revoked
    site.prepare(ROOT, site="hq", server="ps1", addresses=ADDRESSES)
    assert not site.issuing_revoked
    assert holding(enrolled(site)) is not None


def test_a_word_that_is_neither_server_nor_number_is_refused(site: SiteCertificates) -> None:
    with pytest.raises(NotFound) as refused:
        site.revoke("shop9", "a slip")
    assert refused.value.code == "unknown-certificate"
    assert site.register.revoked() == []


def test_reasons_for_a_new_certificate(site: SiteCertificates, clock: Clock) -> None:
    chain = enrolled(site)
    held = holding(chain)
    assert held is not None
    public = public_pem(held.certificate)
    assert site.problem("shop1", chain, public) is None
    assert site.problem("shop1", b"", public) == "there is none"
    assert site.problem("shop1", chain, b"another") == "it does not belong to the key"
    assert site.problem("shop2", chain, public) == "it speaks for another server"
    other = authority.create("ca-hq", now=NOW)
    foreign = authority.issue(other, uri="lifeboat://hq/agent/shop1", days=7, now=NOW)[0]
    assert site.problem("shop1", foreign, public) == "it is not of this site's CA"
    clock.now += 8 * DAY
    assert site.problem("shop1", chain, public) == "it ended on 2026-03-11"


def states(site: SiteCertificates, now: datetime) -> tuple[list[str], list[str]]:
    known = look(site, now)
    return [each.code for each in agent_states("shop1", known, now)], [each.code for each in site_states(known, now)]


def test_what_a_status_is_told(site: SiteCertificates, clock: Clock) -> None:
    assert states(site, NOW) == ([], [])
    token = site.token("shop1")
    assert states(site, NOW) == (["agent-not-enrolled"], [])
    site.certify(peer_of(token), request(), ["shop1"])
    assert states(site, NOW + 5 * DAY) == ([], [])
    assert states(site, NOW + 5.5 * DAY) == (["certificate-ending"], ["certificate-ending"] * 2)
    assert states(site, NOW + 8 * DAY)[0] == ["certificate-ended"]
    site.revoke("shop1", "sold")
    assert states(site, NOW) == (["certificate-revoked"], [])
    listed = document(look(site, NOW), NOW)
    assert {(each["name"], each["reason"]) for each in listed["revoked"]} == {("shop1", "sold")}
    assert document(look(site, NOW + 8 * DAY), NOW + 8 * DAY)["revoked"] == []
    clock.now = NOW + 61 * DAY
    site.renew()
    assert states(site, clock.now)[1] == ["issuing-ending"]
    assert states(site, NOW + 91 * DAY)[1][0] == "issuing-ended"


def test_a_site_without_its_files_says_so(site: SiteCertificates, tmp_path: Path) -> None:
    (tmp_path / "tls/issuing.pem").unlink()
    assert states(site, NOW)[1] == ["issuing-missing"]
    (tmp_path / "tls/issuing.pem").write_bytes(b"torn")
    with pytest.raises(Corrupt):
        site.issuing()
    (tmp_path / "certificates.db").write_bytes(b"no database, and long enough to be looked at" * 100)
    assert states(site, NOW)[1] == ["register-unusable"]


def test_a_power_cut_between_key_and_certificate_heals(site: SiteCertificates, tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "tls/server.key").write_bytes(pem)
    assert site.renew() == [SERVER]
    held = site.held(SERVER)
    assert held is not None
    key = other.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    assert public_pem(held.certificate) == key.public_bytes(serialization.Encoding.PEM, form).strip()


def serial_of(chain: bytes) -> str:
    held = holding(chain)
    assert held is not None
    return held.serial


def test_a_serial_number_revokes_what_it_was_renewed_to_and_from(site: SiteCertificates) -> None:
    first = enrolled(site)
    second = site.certify(peer_of(first), request(), ["shop1"])
    third = site.certify(peer_of(second), request(), ["shop1"])
    other = enrolled(site)
    site.revoke(serial_of(second), "its key was copied")
    for chain in (first, second, third):
        assert refusal(site, chain, request()) == "certificate-revoked"
    assert holding(site.certify(peer_of(other), request(), ["shop1"])) is not None, "a key of its own"


def test_a_certificate_that_ended_revokes_what_it_was_renewed_to(site: SiteCertificates, clock: Clock) -> None:
    first = enrolled(site)
    clock.now += 5 * DAY
    second = site.certify(peer_of(first), request(), ["shop1"])
    clock.now += 5 * DAY
    site.revoke(serial_of(first), "its key was copied")
    assert refusal(site, second, request()) == "certificate-revoked"


def test_what_a_thief_signed_is_revoked_with_what_it_was_renewed_to(site: SiteCertificates) -> None:
    foreign = authority.issue(site.issuing().authority, uri="lifeboat://hq/agent/shop1", days=7, now=NOW)[0]
    renewed = site.certify(peer_of(foreign), request(), ["shop1"])
    revoked = {each.serial for each in site.revoke(serial_of(foreign), "signed by a thief")}
    assert revoked == {serial_of(foreign), serial_of(renewed)}


def test_the_operator_is_revoked_by_name_and_gets_another_key(site: SiteCertificates, tmp_path: Path) -> None:
    stolen, key = (tmp_path / f"{OPERATOR}.crt").read_bytes(), (tmp_path / f"{OPERATOR}.key").read_bytes()
    copied = site.certify(peer_of(stolen), request(), [])
    revoked = {each.serial for each in site.revoke("site", "the laptop was stolen")}
    assert revoked == {serial_of(stolen), serial_of(copied)}
    assert site.renew() == [OPERATOR]
    assert (tmp_path / f"{OPERATOR}.key").read_bytes() != key
    assert refusal(site, copied, request()) == "certificate-revoked"


def test_the_operators_older_certificate_revokes_the_one_of_the_same_key(
    site: SiteCertificates, clock: Clock, tmp_path: Path
) -> None:
    first = (tmp_path / f"{OPERATOR}.crt").read_bytes()
    clock.now += 4 * DAY
    site.renew()
    second = (tmp_path / f"{OPERATOR}.crt").read_bytes()
    assert {each.serial for each in site.revoke(serial_of(first), "copied")} == {serial_of(first), serial_of(second)}


def test_a_server_called_as_the_operator_takes_nobody_along_when_it_leaves(site: SiteCertificates) -> None:
    enrolled(site, "site")
    site.revoke_removed("site")
    assert {each.role for each in site.register.revoked()} == {"agent", "enrolment"}


@pytest.mark.parametrize("attempt", range(3))
def test_whoever_renews_while_being_revoked_is_locked_out(site: SiteCertificates, attempt: int) -> None:
    """Each certificate of the holder is either seen by the revocation or refused after it."""
    chains, renewed = [enrolled(site)], threading.Event()

    def renew() -> None:
        with suppress(Refused, Conflict):
            while True:
                chains.append(site.certify(peer_of(chains[-1]), request(), ["shop1"]))
                renewed.set()

    thread = threading.Thread(target=renew)
    thread.start()
    renewed.wait()
    time.sleep(attempt * 0.001)
    site.revoke("shop1", "stolen")
    thread.join()
    assert {serial_of(chain) for chain in chains} <= {each.serial for each in site.register.revoked()}


def test_a_clock_that_was_ahead_forgets_nothing(site: SiteCertificates, clock: Clock) -> None:
    stolen, token = enrolled(site), site.token("shop2")
    site.certify(peer_of(token), request(), ["shop2"])
    site.revoke(serial_of(stolen), "stolen")
    clock.now += 400 * DAY
    site.register.note(Issued("ab" * 8, "cd" * 8, "agent", "shop3", clock.now.timestamp(), clock.now.timestamp() + 1))
    clock.now = NOW
    assert refusal(site, stolen, request()) == "certificate-revoked"
    assert refusal(site, token, request(), ("shop2",)) == "token-used"
    assert {each.name for each in site.revoke("shop2", "stolen too")} == {"shop2"}


def test_a_register_that_is_busy_is_not_thrown_away(site: SiteCertificates, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / REGISTER, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unreachable) as busy:
            Register(tmp_path / REGISTER, busy_seconds=0.01).revoked()
    assert busy.value.code == "register-busy"
    assert "run it again" in busy.value.remedy
    assert "move the file away" not in busy.value.remedy
    (tmp_path / REGISTER).unlink()
    (tmp_path / REGISTER).mkdir()
    with pytest.raises(Unreachable):
        site.register.revoked()


def test_a_process_server_renews_as_long_as_it_is_declared(site: SiteCertificates, tmp_path: Path) -> None:
    chain = (tmp_path / f"{SERVER}.crt").read_bytes()
    held = holding(site.certify(peer_of(chain), request(), [], ["ps1"]))
    assert held is not None
    assert (held.identity.role, held.identity.name) == ("server", "ps1")
    with pytest.raises(NotFound) as refused:
        site.certify(peer_of(chain), request(), ["ps1"], ["ps2"])
    assert refused.value.code == "unknown-server"


def test_a_certificate_that_an_older_register_knew_is_adopted_and_can_be_revoked_by_name(
    site: SiteCertificates, tmp_path: Path
) -> None:
    chain = enrolled(site)
    held = holding(chain)
    assert held is not None
    (tmp_path / REGISTER).unlink()
    for stranger in (
        b"",
        enrolled(site, "shop2"),
        tmp_path.joinpath("tls/server.crt").read_bytes(),
    ):
        assert not site.adopt("shop1", stranger)
    assert site.adopt("shop1", chain)
    assert site.adopt("shop1", chain), "a second time changes nothing"
    assert [each.serial for each in site.revoke("shop1", "stolen")] == [held.serial]
    assert site.adopt("shop1", chain), "and takes no revocation back"
    assert site.problem("shop1", chain, public_pem(held.certificate)) == "it was revoked"
