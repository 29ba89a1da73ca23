"""Ask the configuration server of a site for its status, with the operator's certificate that lies in the site."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from dr.errors import Unreachable

ANSWER_SECONDS = 5.0


def site_answer(site: Path, port: int, *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Return `GET /v1/status` of the configuration server on this machine; `Unreachable` when it does not answer."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(site / "tls/ca.crt"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(site / "operator/operator.crt", site / "operator/operator.key")
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=seconds, context=context)
        try:
            connection.request("GET", "/v1/status")
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise Unreachable(f"HTTP {response.status}")
        answer: dict[str, Any] = json.loads(body)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreachable(reason or type(error).__name__) from error
    return answer
