"""Emulators of clouds: Azure's, and Google's (smoke tests only)."""

import contextlib

from tests.servers import HERE, Server, program, running, wait_for

ACCOUNT, CONTAINER = "devstoreaccount1", "container"
# The account and key that the emulator documents and accepts.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextlib.contextmanager
def azure(folder, port):
    azurite = program("azurite-blob", "npm's azurite", HERE / "servers/node_modules/.bin")
    options = ("--skipApiVersionCheck", "--silent", "--disableTelemetry")
    command = [azurite, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", folder, *options]
    with running(*command) as server:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for(endpoint, server=server)
        text = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={endpoint}/{ACCOUNT};"
        )
        from azure.storage.blob import BlobServiceClient

        BlobServiceClient.from_connection_string(text).create_container(CONTAINER)
        env = {"AZURE_STORAGE_CONNECTION_STRING": text}
        yield Server("azure", f"az://{CONTAINER}", {}, env, None, port, server)


@contextlib.contextmanager
def gcs(folder, port):
    emulator = program("gcp-storage-emulator", "its package", HERE / "servers/gcs/bin")
    command = [emulator, "start", "--host", "127.0.0.1", "--port", port, "--in-memory", "--default-bucket", "bucket"]
    endpoint = f"http://127.0.0.1:{port}"
    env = {"STORAGE_EMULATOR_HOST": endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    with running(*command, env=env) as server:
        wait_for(endpoint, server=server)
        yield Server("gcs", "gs://bucket", {"token": "anon", "endpoint_url": endpoint}, env, None, port, server)
