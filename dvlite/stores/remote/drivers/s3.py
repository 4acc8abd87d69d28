"""S3 and what speaks like it, by s3fs."""

from collections.abc import Iterator, Mapping
from typing import Any

import s3fs

from dvlite.stores.remote.drivers import logins
from dvlite.stores.remote.drivers.base import Listed, NoPlace, Page, md5_of_etag
from dvlite.stores.remote.drivers.cloud import Cloud, time_of

_PAGE = 1000


class S3(Cloud):
    """S3 and what speaks like it."""

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        self.proves = logins.is_amazon(options)
        kwargs: dict[str, Any] = {
            "max_pool_connections": 64,
            "retries": {"max_attempts": 1},
            "connect_timeout": min(10, timeout_s),
            "read_timeout": timeout_s,
        }
        if "endpoint_url" in options:
            # Servers that are not Amazon's often know no checksums beyond MD5.
            kwargs |= {
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
        kwargs |= dict(options.get("config_kwargs", {}))
        s3 = {"payload_signing_enabled": True, **kwargs.get("s3", {})}
        if style := options.get("addressing_style"):
            s3["addressing_style"] = style
        known = ("config_kwargs", "driver", "region", "client_kwargs", "acl", "sse", "addressing_style")
        rest = {key: value for key, value in options.items() if key not in known}
        if extra := _s3_extra(options):
            rest["s3_additional_kwargs"] = {**extra, **rest.get("s3_additional_kwargs", {})}
        client = dict(options.get("client_kwargs", {}))
        if "region" in options:
            client.setdefault("region_name", options["region"])
        fs = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs=kwargs | {"s3": s3},
            client_kwargs=client,
            **rest,
        )
        fs.retries = 1  # the one who retries is the bucket
        super().__init__(fs, url)

    def pages(self, prefix: str, after: str = "") -> Iterator[Page]:
        """Yield pages as the server has them."""
        bucket, _, root = self.root.partition("/")
        base = f"{root}/" if root else ""
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{base}{prefix}", "MaxKeys": _PAGE}
        if after:
            asked["StartAfter"] = f"{base}{after}"
        while True:
            try:
                answer = self.fs.call_s3("list_objects_v2", **asked)
            except FileNotFoundError as exc:
                raise NoPlace(f"no bucket '{bucket}'") from exc
            rows = answer.get("Contents", ())
            page = {row["Key"][len(base) :]: Listed(int(row["Size"]), time_of(row)) for row in rows}
            yield {name: one for name, one in page.items() if name and not name.endswith("/")}
            if not answer.get("IsTruncated") or not answer.get("NextContinuationToken"):
                return
            asked = {**asked, "ContinuationToken": answer["NextContinuationToken"]}

    def md5(self, name: str) -> bytes | None:
        """Return what the ETag says."""
        return md5_of_etag(self.fs.info(self._key(name)).get("ETag"))

    def version(self, name: str) -> str:
        """Return the version, where the bucket keeps them, else the ETag."""
        found = self.fs.info(self._key(name))
        version = found.get("VersionId")
        return str(version if version not in (None, "null") else found.get("ETag", "")).strip('"')

    def abort(self, name: str) -> None:
        """Abort uploads in parts of an object."""
        bucket, _, key = self._key(name).partition("/")
        answer = self.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
        for one in answer.get("Uploads", ()):
            if one["Key"] == key:
                self.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=one["UploadId"])

    @property
    def source(self) -> str:  # type: ignore[override]
        """Say which of the places that S3's tools look at had credentials."""
        if self.fs.key:
            return "the options of this remote (key, secret)"
        return logins.Login(self.fs.kwargs.get("profile") or "").source


def _s3_extra(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    if "acl" in options:
        found["ACL"] = options["acl"]
    if "sse" in options:
        found["ServerSideEncryption"] = options["sse"]
    return found
