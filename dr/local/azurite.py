"""Azurite, which plays Azure Storage: its process, its accounts and their keys.

Rules:
- Stopped gently only (SIGTERM, and patience): killed hard it forgets up to five seconds of what it acknowledged.
- The port is remembered, because blob addresses hold it; the data is in `cloud/azurite`.
- Keys are random, sealed in the key store as `storage-ACCOUNT`, and reach Azurite by its environment only.
- Without an account it would open a well-known default one, so it is never started without our own list.
- One change at a time on this machine (a lock file beside `accounts.json`).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dr.durable import write_durably
from dr.errors import Conflict, Corrupt, Degraded, NotFound, Unreachable
from dr.local.processes import ProcessIdentity, start_recorded_daemon, tail
from dr.local.tools import azurite_command
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.secrets import KeyStore, key_store

START_SECONDS = 60.0
STOP_SECONDS = 60.0
# Azurite falls back to its public default account when the list is empty; this one keeps the list from being so.
PLACEHOLDER_ACCOUNT = "lifeboatlocal"
UNREADABLE_ACCOUNTS = (
    'write it again: {"endpoint": "http://127.0.0.1:PORT", "accounts": [NAME, …]}; the names are those of '
    "cloud/keyvault/storage-NAME.sealed, the port is in every resource of cloud/resources"
)


def account_secret(account: str) -> str:
    """Return the name of an account's key in the key store."""
    return f"storage-{account}"


@dataclass(frozen=True, slots=True)
class Azurite:
    """The one Azurite of a local target."""

    folders: Folders

    @property
    def log(self) -> Path:
        return self.folders.cloud / "azurite.log"

    @property
    def _identity_file(self) -> Path:
        return self.folders.cloud / "azurite.json"

    def accounts(self) -> list[str]:
        """Return the names of the storage accounts."""
        return list(self._settings().get("accounts", []))

    def endpoint(self) -> str:
        """Return `http://127.0.0.1:PORT`. `NotFound` before the first start."""
        endpoint = self._settings().get("endpoint")
        if not endpoint:
            raise NotFound("the local target has no storage yet", remedy="run `dr local up`")
        return str(endpoint)

    def identity(self) -> ProcessIdentity | None:
        """Return the running process, or None."""
        try:
            identity = ProcessIdentity.from_dict(json.loads(self._identity_file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            raise Corrupt(
                f"{self._identity_file} is not readable",
                remedy="end the process `azurite-blob` of this target by hand (SIGTERM) and remove the file",
            ) from error
        return identity if identity.alive() else None

    def start(self) -> bool:
        """Start it if it does not run and wait until it answers; return whether it had to be started."""
        with self._changing():
            if self.identity() is not None:
                self._wait_until_it_answers()
                return False
            self._start()
            return True

    def stop(self) -> bool:
        """Stop it gently; return whether it ran. `Degraded` when it had to be killed."""
        with self._changing():
            return self._stop()

    def add_account(self, account: str) -> None:
        """Make a storage account with a random key. `Conflict` when the name is taken."""
        with self._changing():
            accounts = self.accounts()
            if account in accounts:
                raise Conflict(f'the storage account named "{account}" is already taken')
            self._keys().put(account_secret(account), base64.b64encode(secrets.token_bytes(64)))
            self._save(accounts=[*accounts, account])
            self._stop()
            self._start()

    def remove_account(self, account: str) -> None:
        """Forget an account and its key; no error when there is none."""
        with self._changing():
            accounts = self.accounts()
            if account in accounts:
                self._save(accounts=[name for name in accounts if name != account])
                self._stop()
                self._start()
            self._keys().delete(account_secret(account))

    def key(self, account: str) -> str:
        """Return an account's key. `NotFound`; `Refused` when the passphrase is wrong."""
        return self._keys().get(account_secret(account)).decode()

    def _keys(self) -> KeyStore:
        return key_store(LOCAL_SUBSCRIPTION, self.folders)

    def _start(self) -> None:
        self.folders.azurite.mkdir(mode=0o700, parents=True, exist_ok=True)
        port = self._port()
        # The environment is readable by this user and root only, unlike arguments.
        keys = {account: self.key(account) for account in self.accounts()}
        keys = keys or {PLACEHOLDER_ACCOUNT: base64.b64encode(secrets.token_bytes(64)).decode()}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
        environment["AZURITE_ACCOUNTS"] = ";".join(f"{account}:{key}" for account, key in keys.items())
        command = [
            azurite_command(),
            *("--location", str(self.folders.azurite)),
            *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        ]
        self._save(endpoint=f"http://127.0.0.1:{port}")
        start_recorded_daemon(
            command, record=self._identity_file, folder=self.folders.azurite, log=self.log, environment=environment
        )
        self._wait_until_it_answers()

    def _stop(self) -> bool:
        identity = self.identity()
        if identity is None:
            return False
        gentle = identity.end(grace_seconds=STOP_SECONDS)
        self._identity_file.unlink(missing_ok=True)
        if not gentle:
            raise Degraded(
                f"Azurite did not stop within {STOP_SECONDS:.0f} s and was killed: it may have forgotten its last "
                "five seconds",
                code="store-killed",
                remedy="`dr status` names the replicas that went back; they heal by a resync",
            )
        return True

    def _wait_until_it_answers(self) -> None:
        port = int(self.endpoint().rsplit(":", 1)[1])
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 2).close()
            except OSError:
                if self.identity() is None:
                    break
                time.sleep(0.1)
            else:
                return
        raise Unreachable(f"Azurite does not answer on port {port}; its last words: {tail(self.log)}")

    def _port(self) -> int:
        remembered = self._settings().get("endpoint")
        with socket.socket() as probe:
            # Azurite itself binds with this option; connections of a stopped one linger for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if remembered:
                try:
                    probe.bind(("127.0.0.1", int(str(remembered).rsplit(":", 1)[1])))
                except OSError as error:
                    raise Conflict(
                        f"Azurite's port is in use by another program ({remembered}); blob addresses hold it, so it "
                        "is not changed silently",
                        code="port-in-use",
                        remedy="end that program, or edit the endpoint in cloud/accounts.json",
                    ) from error
            else:
                probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def _settings(self) -> Mapping[str, Any]:
        try:
            settings: dict[str, Any] = json.loads(self.folders.accounts.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise Corrupt(f"{self.folders.accounts} is not readable: {error}", remedy=UNREADABLE_ACCOUNTS) from error
        return settings

    def _save(self, **changes: object) -> None:
        write_durably(self.folders.accounts, json.dumps({"accounts": [], **self._settings(), **changes}).encode())

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.folders.cloud.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folders.cloud / ".azurite.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
