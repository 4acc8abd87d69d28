"""Azure Blob Storage, by adlfs."""

from collections.abc import Mapping
from typing import Any

import adlfs

from dvlite.stores.remote.drivers.cloud import Cloud


class Azure(Cloud):
    """Azure Blob Storage."""

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        self.source = _azure_source(options)
        rest = {"read_timeout": int(timeout_s), "connection_timeout": min(10, int(timeout_s)), **options}
        if endpoint := rest.pop("endpoint_url", ""):
            rest.setdefault("account_host", endpoint.partition("://")[2])
        fs = adlfs.AzureBlobFileSystem(skip_instance_cache=True, use_listings_cache=False, **rest)
        retries = fs.service_client._config.retry_policy  # the one who retries is the bucket, and within seconds
        retries.total_retries = retries.connect_retries = retries.read_retries = retries.status_retries = 0
        waits = fs.service_client._pipeline._transport.connection_config
        waits.timeout, waits.read_timeout = min(10, timeout_s), timeout_s
        self.source = self.source or _azure_found(fs)
        super().__init__(fs, url)

    def version(self, name: str) -> str:
        """Return the blob's ETag."""
        return str(self.fs.info(self._key(name)).get("etag") or "").strip('"') or super().version(name)

    def md5(self, name: str) -> bytes | None:
        """Return the blob's own, where one was kept."""
        settings = self.fs.info(self._key(name)).get("content_settings") or {}
        found = settings.get("content_md5")
        return bytes(found) if found else None

    def _has_bucket(self, bucket: str) -> bool:
        return bool(self.fs.exists(bucket))


def _azure_source(options: Mapping[str, Any]) -> str:
    for key in ("connection_string", "account_key", "sas_token", "client_secret"):
        if key in options:
            return f"the option '{key}'"
    return ""


def _azure_found(fs: Any) -> str:
    for key in ("connection_string", "account_key", "sas_token"):
        if getattr(fs, key, None):
            return f"the environment (AZURE_STORAGE_{key.upper()})"
    return "Azure's own places (DefaultAzureCredential)"
