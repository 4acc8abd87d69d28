"""Google Cloud Storage, by gcsfs."""

import base64
from collections.abc import Mapping
from typing import Any

import gcsfs

from dvlite.stores.remote.drivers.cloud import Cloud


class Google(Cloud):
    """Google Cloud Storage."""

    proves = True  # gcsfs compares the MD5 of what it sent

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        rest = dict(options)
        if rest.pop("anon", False):
            rest["token"] = "anon"
        self.source = "the option 'token'" if "token" in rest else "Google's own places (google.auth.default)"
        fs = gcsfs.GCSFileSystem(
            skip_instance_cache=True, use_listings_cache=False, timeout=timeout_s, consistency="md5", **rest
        )
        super().__init__(fs, url)

    def _has_bucket(self, bucket: str) -> bool:
        try:
            self.fs.call("GET", "b/{}", bucket, json_out=True)
        except FileNotFoundError:
            return False
        return True

    def version(self, name: str) -> str:
        """Return the object's generation."""
        return str(self.fs.info(self._key(name)).get("generation") or "") or super().version(name)

    def md5(self, name: str) -> bytes | None:
        """Return the object's own."""
        text = self.fs.info(self._key(name)).get("md5Hash")
        return base64.b64decode(text) if text else None
