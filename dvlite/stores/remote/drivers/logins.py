"""S3 credentials from where S3's own tools look: the environment, profiles, single sign-on, roles.

This room alone looks at the environment by itself, as those tools do: botocore, which knows all the rest, needs 0.3 s to start.
"""

import os
from collections.abc import Mapping
from typing import Any

_WORDS = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "shared-credentials-file": "the shared credentials file (~/.aws/credentials)",
    "config-file": "the config file (~/.aws/config)",
    "iam-role": "this machine's role",
    "container-role": "this container's role",
    "sso": "single sign-on",
}


def is_amazon(options: Mapping[str, Any]) -> bool:
    """Tell whether it is Amazon's own server: it compares a body with the hash that its request was signed with; not all do."""
    return "endpoint_url" not in options


def is_in_environment() -> bool:
    """Tell whether the environment has a key; it comes before all else."""
    return bool(os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"))


class Login:
    """Credentials of a profile ("" is the default one), renewed as they end. Called by obstore, from its threads."""

    def __init__(self, profile: str) -> None:
        import botocore.session

        self._session = botocore.session.Session(profile=profile or None)
        self._found = self._session.get_credentials()
        self.region = str(self._session.get_config_variable("region") or "")
        where = "nowhere: no credentials were found"
        if self._found:
            where = _WORDS.get(self._found.method, self._found.method)
        self.source = f"{where}, profile '{profile}'" if profile else where

    def __call__(self) -> dict[str, Any]:
        """Return the credentials as they are now."""
        if self._found is None:
            raise PermissionError("no credentials were found")
        now = self._found.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": getattr(self._found, "_expiry_time", None),
        }
