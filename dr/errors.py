"""The tree of errors: every failure a user can meet, with its code, exit code and remedy.

Rules kept here:
- The class carries `code` (stable, used by APIs and the CLI) and `exit_code`; the instance carries the
  message and, where it knows better than the class, the remedy.
- Runs on Python 3.9 and imports nothing: the agent shares it.
- The same codes travel in the APIs' error body (`as_dict`) and in `--json` output.
"""

from __future__ import annotations

from typing import Any, Dict, Optional


class LifeboatError(Exception):
    """Root of all expected failures."""

    code = "failed"
    exit_code = 1
    remedy = ""
    http_status = 500

    def __init__(self, message: str, *, remedy: Optional[str] = None, code: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        if remedy is not None:
            self.remedy = remedy
        if code is not None:
            self.code = code

    def as_dict(self) -> Dict[str, Any]:
        """Return the body that every API and `--json` output uses for an error."""
        return {"error": {"code": self.code, "message": self.message, "remedy": self.remedy}}


class DeclarationInvalid(LifeboatError):
    """The YAML declaration has errors; the message holds one `file:line:column: what` per line."""

    code = "declaration-invalid"
    exit_code = 3
    remedy = "correct the lines named above and run `dr validate` again"
    http_status = 422


class PrerequisiteMissing(LifeboatError):
    """Something that the machine needs is not there (a package, a program, a secret)."""

    code = "prerequisite-missing"
    exit_code = 4
    http_status = 500


class Unreachable(LifeboatError):
    """A component or server did not answer."""

    code = "unreachable"
    exit_code = 5
    http_status = 503


class Refused(LifeboatError):
    """The request is understood and is not allowed (fenced writer, foreign subscription, bad certificate)."""

    code = "refused"
    exit_code = 6
    http_status = 403


class Conflict(LifeboatError):
    """The other side is in another state than the request assumes (lease lost, sequence gap, name in use)."""

    code = "conflict"
    exit_code = 6
    http_status = 409


class Degraded(LifeboatError):
    """The work goes on or was answered, but a named state needs attention."""

    code = "degraded"
    exit_code = 7
    http_status = 200


class NotFound(LifeboatError):
    """What was named does not exist."""

    code = "not-found"
    exit_code = 8
    http_status = 404


class Corrupt(LifeboatError):
    """Stored or received bytes are not what their checksum says."""

    code = "corrupt"
    exit_code = 9
    http_status = 422


class RunFailed(LifeboatError):
    """A drill or failover did not reach its goal."""

    code = "run-failed"
    exit_code = 10
    http_status = 500


class Interrupted(LifeboatError):
    """A person ended the command (Ctrl-C)."""

    code = "interrupted"
    exit_code = 130
    http_status = 500
