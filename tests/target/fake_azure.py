"""Azure as far as `dr` asks it, played inside this process: an adapter of `requests` that the SDK's transport uses.

No socket is opened and no name is resolved; a host that is not played is an error. What it plays:

- the login service: discovery, and a token for an application that signs its request with the certificate it has
  registered; a person's token comes from `Person`, which asks nobody;
- Resource Manager: any resource by its id, long-running creations, lists of a group, roles and locks as resources;
- a Key Vault's secrets, with its challenge: the first request of a client is answered 401 and tells whom to ask.

What it does not prove: that the services take these requests and answer so; who may do what (it asks for a valid
token and nothing more, unless `forbidden` names a path); throttling, propagation and time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import requests
import urllib3
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.pipeline.transport import RequestsTransport
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from requests.adapters import BaseAdapter, HTTPAdapter

from dr.target.azure import Azure

TENANT, CLIENT = "8b9f6f3e-0a54-4c0e-9d2b-5d6c1f7a2e11", "5c2d8a4b-7e13-4f66-8a90-3b1c2d4e5f60"
PERSON = "0f9e8d7c-6b5a-4c3d-8e2f-1a0b9c8d7e6f"
LOGIN, MANAGEMENT, VAULTS = "login.microsoftonline.com", "management.azure.com", ".vault.azure.net"
AUDIENCES = {MANAGEMENT: "https://management.azure.com", "vault": "https://vault.azure.net"}
Answer = tuple[int, Any, dict[str, str]]
Key = tuple[str, str]


@dataclass
class FakeAzure(BaseAdapter):
    """One tenant with one subscription; `asked` are the requests that came, METHOD and path."""

    subscription: str
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)  # by lower-case id
    secrets: dict[Key, dict[str, Any]] = field(default_factory=dict)  # by vault and name
    deleted: dict[Key, dict[str, Any]] = field(default_factory=dict)
    applications: dict[str, x509.Certificate] = field(default_factory=dict)
    forbidden: str = "nothing"  # paths with this in them are answered 403
    busy: str = "nothing"  # changes of them are answered 409
    busy_code: str = "Conflict"
    silent: bool = False
    asked: list[str] = field(default_factory=list)

    def azure(self, credential: TokenCredential | None = None) -> Azure:
        """Return what the product has of this Azure."""
        return Azure(credential or Person(), transport=self.transport(), retry_total=0)

    def transport(self) -> RequestsTransport:
        session = requests.Session()
        session.mount("https://", self)
        session.mount("http://", self)
        return RequestsTransport(session=session, session_owner=False)

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        assert request.url is not None
        url = urlsplit(request.url)
        self.asked.append(f"{request.method} {url.path}")
        if self.silent:
            raise requests.ConnectionError("nobody answers")
        host, body = str(url.hostname), json.loads(_text(request.body)) if _is_json(request) else request.body
        service: Callable[..., Answer]
        if host == LOGIN:
            service = self._login
        elif host == MANAGEMENT:
            service = self._authorised(request, MANAGEMENT, self._manage)
        elif host.endswith(VAULTS):
            service = self._authorised(request, "vault", self._keep)
        else:
            raise AssertionError(f"nobody plays {host}")
        status, answer, headers = service(str(request.method), host, unquote(url.path), body)
        return _response(request, status, answer, headers)

    def close(self) -> None:
        pass

    def _authorised(self, request: requests.PreparedRequest, audience: str, service: Callable[..., Answer]) -> Any:
        _, _, token = str(request.headers.get("Authorization", "")).partition(" ")
        if not token or claims(token).get("aud") != AUDIENCES[audience]:
            where = f'Bearer authorization="https://{LOGIN}/{TENANT}", resource="{AUDIENCES[audience]}"'
            return lambda *_: (401, _error("Unauthorized", "no token for this"), {"WWW-Authenticate": where})
        if self.forbidden in str(request.url):
            return lambda *_: (403, _error("AuthorizationFailed", "does not have authorization"), {})
        if self.busy in str(request.url) and request.method != "GET":
            return lambda *_: (409, _error(self.busy_code, "is being changed by another"), {})
        return service

    def _login(self, method: str, host: str, path: str, body: Any) -> Answer:
        if path.endswith("/.well-known/openid-configuration"):
            base = f"https://{LOGIN}/{TENANT}"
            document = {"token_endpoint": f"{base}/oauth2/v2.0/token", "issuer": f"{base}/v2.0"}
            return 200, {**document, "authorization_endpoint": f"{base}/oauth2/v2.0/authorize"}, {}
        if path.endswith("/discovery/instance"):
            base = f"https://{LOGIN}/{TENANT}/v2.0/.well-known/openid-configuration"
            return 200, {"tenant_discovery_endpoint": base, "metadata": []}, {}
        form = {name: values[0] for name, values in parse_qs(str(body)).items()}
        certificate = self.applications.get(form.get("client_id", ""))
        if certificate is None or not _signed_by(form["client_assertion"], certificate):
            return 401, {"error": "invalid_client", "error_description": "the assertion is not signed by its key"}, {}
        audience = form["scope"].split("/.default")[0]
        return 200, {"access_token": token(audience, form["client_id"]), "expires_in": 3600, "token_type": "Bearer"}, {}

    def _manage(self, method: str, host: str, path: str, body: Any) -> Answer:
        key = path.lower()
        if not f"{key}/".startswith(f"/subscriptions/{self.subscription}/"):
            return 404, _error("SubscriptionNotFound", f"The subscription of {path} could not be found."), {}
        if path == f"/subscriptions/{self.subscription}":
            return 200, {"id": path, "subscriptionId": self.subscription, "tenantId": TENANT}, {}
        if method == "GET" and key.endswith("/resources"):
            group = key.removesuffix("/resources")
            if group not in self.resources:
                return 404, _error("ResourceGroupNotFound", "no such group"), {}
            inside = [one for name, one in self.resources.items() if name.startswith(f"{group}/providers/")]
            return 200, {"value": [one for one in inside if one["id"].count("/") == 8]}, {}
        if method == "PUT":
            return self._put(path, body)
        if key not in self.resources:
            return 404, _error("ResourceNotFound", f"no {path}"), {}
        return 200, self.resources[key], {}

    def _put(self, path: str, body: dict[str, Any]) -> Answer:
        made = path.lower() not in self.resources
        parent = path.lower().rpartition("/providers/")[0]
        if parent and parent not in self.resources:
            return 404, _error("ParentResourceNotFound", f"no {parent}"), {}
        older = self.resources.get(path.lower(), {})
        merged = {**older.get("properties", {}), **body.get("properties", {}), "provisioningState": "Succeeded"}
        name = path.rpartition("/")[2]
        self.resources[path.lower()] = {**older, **body, "id": path, "name": name, "properties": merged}
        if made and path.lower().split("/")[-2] == "storageaccounts":
            # As the service does it: accepted first, and the address of the result to ask again.
            return 202, None, {"Location": f"https://{MANAGEMENT}{path}?api-version=2024-01-01", "Retry-After": "0"}
        return (201 if made else 200), self.resources[path.lower()], {}

    def _keep(self, method: str, host: str, path: str, body: Any) -> Answer:
        vault = host.removesuffix(VAULTS)
        _, kind, name, *rest = [*path.split("/"), ""]
        key = (vault, name)
        missing: Answer = 404, _error("SecretNotFound", f"no secret {name}"), {}
        if kind == "deletedsecrets":
            if key not in self.deleted:
                return missing
            if rest[0] == "recover":
                self.secrets[key] = self.deleted.pop(key)
                return 200, self.secrets[key], {}
            return 200, self.deleted[key], {}
        if method == "PUT" and key in self.deleted:
            inner = {"code": "ObjectIsDeletedButRecoverable"}
            return 409, {"error": {"code": "Conflict", "message": "deleted", "innererror": inner}}, {}
        if method == "PUT":
            version = f"https://{host}/secrets/{name}/{uuid.uuid4().hex}"
            self.secrets[key] = {"id": version, "attributes": {"enabled": True}, **body}
        elif key not in self.secrets:
            return missing
        elif method == "DELETE":
            self.deleted[key] = self.secrets.pop(key)
            return 200, {**self.deleted[key], "recoveryId": f"https://{host}/deletedsecrets/{name}"}, {}
        return 200, self.secrets[key], {}


class Person:
    """The login of a person who is there already."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken(token(scopes[0].removesuffix("/.default"), PERSON), int(time.time()) + 3600)


def token(audience: str, who: str) -> str:
    """Return a token of the fake tenant, good for an hour; its signature is nobody's."""
    now = int(time.time())
    times = {"iat": now - 60, "nbf": now - 60, "exp": now + 3600}
    issuer = {"iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT, "ver": "1.0"}
    content = {"aud": audience, "oid": who, "idtyp": "user" if who == PERSON else "app", **issuer, **times}
    return ".".join([_segment({"alg": "none"}), _segment(content), "x"])


def claims(of: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_unsegment(of.split(".")[1]))
    return content


def _signed_by(assertion: str, certificate: x509.Certificate) -> bool:
    """Check the signature, whose key it names and whom it is for, as RFC 7523 and the login service want it."""
    head, content, signature = assertion.split(".")
    header = json.loads(_unsegment(head))
    named = {
        "x5t": hashlib.sha1(certificate.public_bytes(serialization.Encoding.DER)).digest(),
        "x5t#S256": hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest(),
    }
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    public.verify(
        _unsegment(signature),
        f"{head}.{content}".encode(),
        pss if header["alg"] == "PS256" else padding.PKCS1v15(),
        hashes.SHA256(),
    )
    return any(_unsegment(header[name]) == value for name, value in named.items() if name in header)


def _segment(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _unsegment(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _is_json(request: requests.PreparedRequest) -> bool:
    return bool(request.body) and "json" in str(request.headers.get("Content-Type"))


def _text(body: Any) -> str:
    return body.decode() if isinstance(body, bytes) else str(body)


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _response(
    request: requests.PreparedRequest, status: int, answer: Any, headers: dict[str, str]
) -> requests.Response:
    body = b"" if answer is None else json.dumps(answer).encode()
    raw = urllib3.HTTPResponse(
        body=io.BytesIO(body),
        headers={"Content-Type": "application/json", "Content-Length": str(len(body)), **headers},
        status=status,
        reason=HTTPStatus(status).phrase,
        preload_content=False,
    )
    return HTTPAdapter().build_response(request, raw)
