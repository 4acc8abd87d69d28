from tests.remotes.suite import RemoteSuite
from tests.servers.emulators import ACCOUNT


class TestAzure(RemoteSuite):
    """Azurite, by adlfs."""

    name = "azure"
    login = {
        "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey=d3Jvbmc=;"
        f"BlobEndpoint=http://127.0.0.1:{{port}}/{ACCOUNT};"
    }
