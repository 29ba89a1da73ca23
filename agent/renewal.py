"""The thread that keeps the agent's certificate: exchanges a token for the first one, and renews it from then on.

    token.pem there                     -> exchange it, whatever certificate there is; then remove it
    half of the certificate's life over -> renew it, with the same key, also while a token cannot be exchanged

Rules kept here:
- A new certificate is tried with the key before it takes the old one's place, and takes it in one step.
- What fails is tried again until it succeeds, but for a token that ended or that is refused for good: it is removed.
- Tracking goes on without a certificate; nothing is sent.
- `reason` names a certificate that is missing, near its end or over it, and why it was not renewed; and a token that
  could not be exchanged, until another was or the certificate was renewed without one.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
import time
import zlib
from typing import Optional, Tuple

from agent import log
from agent.config import Config
from agent.link import Link, Tls, pause_seconds
from agent.reasons import Reason, reason
from dr.errors import LifeboatError, Unreachable

ANSWER_SECONDS = 20.0
OPENSSL_SECONDS = 60.0  # an emulated server takes long to start a program
LOOK_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
DEAD = frozenset({"token-used", "token-unknown"})  # whoever answers this to a token answers it for good
NAMED_AT = 0.75  # of its life: it should have been renewed long ago
_KEY = ("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt",
        "ec_param_enc:named_curve", "-out")  # fmt: skip
_REQUEST = ("openssl", "req", "-new", "-sha256", "-subj", "/CN=lifeboat-agent", "-config", "/dev/stdin", "-key")
_REQUEST_CONFIG = "[req]\ndistinguished_name=dn\n[dn]\n"
_DATES = ("openssl", "x509", "-noout", "-startdate", "-enddate", "-in")


class Renewal:
    """Keeps the files of `config` and tells `tls` when they changed."""

    def __init__(self, config: Config, tls: Tls) -> None:
        self._config = config
        self._tls = tls
        # Agents that were installed together do not ask together.
        self._renew_at = 0.5 + zlib.crc32(config.server.encode()) % 1000 / 10000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)
        self._failures = 0
        self._next_try = 0.0
        self._tried_token: Optional[Tuple[int, int]] = None
        self._token_why = ""
        self._why = ""
        self._dates: Optional[Tuple[float, float]] = None
        self._dates_of: Optional[Tuple[int, int]] = None
        self.reason: Optional[Reason] = None

    def start(self) -> None:
        """Begin to keep the certificate."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; nobody waits for it."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look()
            self._stop.wait(LOOK_SECONDS)

    def _look(self) -> None:
        token, now = _stamp(self._config.token), time.time()
        dates = self._lifetime()
        due = dates is not None and now >= dates[0] + (dates[1] - dates[0]) * self._renew_at
        if token is not None and token != self._tried_token:
            self._next_try = 0.0
        if (token is not None or due) and time.monotonic() >= self._next_try:
            self._tried_token = token
            self._try(token=token is not None, due=due)
            dates = self._lifetime()
        self.reason = self._judge(dates, time.time())

    def _try(self, *, token: bool, due: bool) -> None:
        """Exchange the token; renew what is due when there is none, or it fails."""
        exchanged = False
        if token:
            self._token_why = self._attempt(self._token_why, by_token=True)
            exchanged = not self._token_why
        if exchanged:
            self._why = ""
        elif due:
            self._why = self._attempt(self._why, by_token=False)
            if not token and not self._why:
                self._token_why = ""
        if self._why or (token and not exchanged):
            self._failures += 1
            self._next_try = time.monotonic() + pause_seconds(self._failures, longest=LONGEST_PAUSE_SECONDS)
        else:
            self._failures, self._next_try = 0, 0.0

    def _attempt(self, before: str, *, by_token: bool) -> str:
        """Return why it failed, empty when it did not; say what was not said `before`."""
        what, why = "given for the token" if by_token else "renewed", ""
        try:
            self._exchange(by_token=by_token)
        except LifeboatError as error:
            why = error.message
            if by_token and (error.code in DEAD or _ended(self._config.token)) and self._remove_tried_token():
                why += "; the token was removed"
        except (OSError, subprocess.SubprocessError) as error:
            why = f"{type(error).__name__}: {error}"
        if not why or why != before:
            log.say(f"certificate: not {what}: {why}" if why else f"certificate: {what}")
        return why

    def _remove_tried_token(self) -> bool:
        try:
            if _stamp(self._config.token) == self._tried_token:  # else another came meanwhile
                os.unlink(self._config.token)
                return True
        except OSError as error:
            log.say(f"certificate: the token cannot be removed: {error}")
        return False

    def _exchange(self, *, by_token: bool) -> None:
        config = self._config
        shown = Tls(config.ca, config.token, config.token) if by_token else self._tls
        link = Link(config.configuration_server, shown)
        if by_token and not os.path.exists(config.key):
            _make_key(config.key)
        request = _openssl(*_REQUEST, config.key, text=_REQUEST_CONFIG)
        try:
            wanted = {"request": request}
            answer = link.request("POST", "/v1/certificates", wanted, seconds=ANSWER_SECONDS)
        finally:
            link.close()
        if not answer.ok:
            raise Unreachable(f"{answer.code}: {answer.message}", code=answer.code, remedy=answer.remedy)
        self._keep(str(answer.body.get("certificate", "")))
        if by_token:
            os.unlink(config.token)

    def _keep(self, chain: str) -> None:
        config, temporary = self._config, f"{self._config.certificate}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        # What is no ASCII is no certificate, and is refused below.
        with os.fdopen(descriptor, "w", encoding="ascii", errors="replace") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(chain)
        try:
            Tls(config.ca, temporary, config.key).context()
        except Unreachable:
            os.unlink(temporary)
            raise
        _replace(temporary, config.certificate)
        self._tls.renewed()

    def _lifetime(self) -> Optional[Tuple[float, float]]:
        """Return from when to when the certificate is good (seconds since 1970), None without one."""
        path = self._config.certificate
        stamp = _stamp(path)
        if stamp is None or stamp != self._dates_of:
            self._dates_of, self._dates = stamp, _dates(path) if stamp is not None else None
        return self._dates

    def _judge(self, dates: Optional[Tuple[float, float]], now: float) -> Optional[Reason]:
        cause = self._why or self._token_why
        why = f": {cause}" if cause else ""
        if dates is None:
            return reason("not-enrolled", f"the agent has no certificate yet{why or ' and no token to get one'}")
        end = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(dates[1]))
        if now >= dates[1]:
            return reason("certificate-ended", f"the agent's certificate ended at {end}{why}")
        if now >= dates[0] + (dates[1] - dates[0]) * NAMED_AT:
            return reason("certificate-ending", f"the agent's certificate ends at {end} and was not renewed{why}")
        if self._token_why:
            return reason("token-failed", f"the token was not exchanged for a certificate: {self._token_why}")
        return None


def _make_key(path: str) -> None:
    """Make a key, readable by root only from its first moment; an installation by hand brings none."""
    temporary = f"{path}.new"
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    _openssl(*_KEY, temporary)
    _replace(temporary, path)


def _replace(temporary: str, path: str) -> None:
    for name, flags in ((temporary, os.O_RDWR), (os.path.dirname(path), os.O_RDONLY)):
        descriptor = os.open(name, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if name == temporary:
            os.replace(temporary, path)


def _dates(path: str) -> Optional[Tuple[float, float]]:
    try:
        found = dict(line.split("=", 1) for line in _openssl(*_DATES, path).splitlines() if "=" in line)
        return ssl.cert_time_to_seconds(found["notBefore"]), ssl.cert_time_to_seconds(found["notAfter"])
    except (KeyError, ValueError, OSError, subprocess.SubprocessError):
        return None


def _ended(path: str) -> bool:
    dates = _dates(path)
    return dates is not None and time.time() >= dates[1]


def _openssl(*command: str, text: str = "") -> str:
    done = subprocess.run(
        command,
        input=text.encode("ascii"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=OPENSSL_SECONDS,
        check=True,
    )
    return done.stdout.decode("ascii", "replace")


def _stamp(path: str) -> Optional[Tuple[int, int]]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
