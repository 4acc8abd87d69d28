import pytest

from dvlite import config
from dvlite.errors import DvliteError, FormatError, UsageError

HEAD = b'[dvlite]\nformat = 1\nid = "0123456789abcdef0123456789abcdef"\nhash = "sha256"\n'


def test_golden_bytes():
    assert config.encode_new("0123456789abcdef0123456789abcdef", "sha256") == HEAD
    assert config.encode_marker() == b'{"dvlite":{"format":1}}\n'


def test_a_full_file_is_read():
    text = (
        HEAD + b'remote = "a"\n[remote.a]\nurl = "s3://b/p"\njobs = 4\n[remote.a.options]\nendpoint_url = "https://x"\n'
    )
    found = config.decode(text + b'[policy]\nstale = "block"\ngit_max_size = "1.5 GiB"\nappend_only = ["a/**"]\n')
    assert (found.hash, found.remote, found.policy["stale"]) == ("sha256", "a", "block")
    remote = config.remote("a", found.remotes["a"])
    assert (remote.url, remote.jobs, remote.options) == ("s3://b/p", 4, {"endpoint_url": "https://x"})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (b"[remtoe.a]\n", "remtoe"),
        (b'[remote.a]\nulr = "x"\n', "ulr"),
        (b"[policy]\nstail = 1\n", "stail"),
        (b'[policy]\nstale = "sometimes"\n', "stale"),
        (b'[policy]\ngit_max_size = "much"\n', "size"),
        (b'[remote.a]\nurl = "a::b"\n', "a::b"),
        (b'[remote.a]\nurl = "filecache::s3://b"\n', "filecache"),
        (b'[remote.a]\nurl = "ftp://b"\n', "ftp"),
        (b'[remote.a]\nurl = ""\n', "empty"),
        (b'[remote.a]\nurl = "sftp://me:secret@host/x"\n', "password"),
        (b'[remote.a]\nurl = "s3://b"\n[remote.a.options]\nsecret = "x"\n', "credential"),
        (b'[remote.a]\nurl = "s3://b"\n[remote.a.options]\nkey = "x"\n', "credential"),
        (b'[remote.a]\nurl = "s3://b"\n[remote.a.options]\naws_secret_access_key = "x"\n', "credential"),
        (b'[remote.a]\nurl = "sftp://h/x"\n[remote.a.options]\nproxy_command = "x"\n', "proxy_command"),
        (b'[remote.a]\nurl = "s3://b"\n[remote.a.options]\nclient_kwargs = {}\n', "client_kwargs"),
        (b'[remote."a/b"]\nurl = "s3://b"\n', "a/b"),
    ],
)
def test_what_must_not_stand_there_is_refused_by_name(more, said):
    with pytest.raises(DvliteError, match=said) as caught:
        config.decode(HEAD + more)
    assert "secret@" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[dvlite]\n",
        b"no toml [",
        b"\xff",
        HEAD.replace(b"0123", b"XYZ!"),
        HEAD.replace(b"sha256", b"md5"),
        b"dvlite = 1\n",
    ],
)
def test_a_malformed_head_is_refused(text):
    with pytest.raises(FormatError):
        config.decode(text)


def test_a_newer_format_says_so():
    with pytest.raises(FormatError, match="newer dvlite"):
        config.decode(HEAD.replace(b"format = 1", b"format = 2"))


def test_the_nearest_key_is_named():
    with pytest.raises(FormatError) as caught:
        config.decode(HEAD + b'[remote.a]\nulr = "x"\n')
    assert "url" in caught.value.hint


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"dvlite":{"format":2}}\n', b'{"dvlite": {"format": 1}}\n', b"[" * 10000]
)
def test_a_marker_that_is_not_ours_is_refused(data):
    with pytest.raises(FormatError):
        config.decode_marker(data)


@pytest.mark.parametrize(("text", "size"), [("100 MB", 10**8), ("1.5GiB", 3 << 29), ("12", 12), (7, 7), ("1 kB", 1000)])
def test_sizes_are_read(text, size):
    assert config.parse_size(text) == size


def test_passwords_are_not_shown():
    assert config.redact("sftp://me:secret@host/x") == "sftp://***@host/x"
    assert config.redact("s3://KEY:se/cret@bucket/x") == "s3://***@bucket/x"
    assert config.redact("s3://bucket/x:y") == "s3://bucket/x:y"


@pytest.mark.parametrize(
    "key", ["secret", "key", "token", "password", "account_key", "sas_token", "aws_secret_access_key", "private-key"]
)
def test_secrets_are_known_by_their_names(key):
    assert config.is_secret(key)


@pytest.mark.parametrize("key", ["url", "jobs", "endpoint_url", "region", "profile", "username", "anon", "keep"])
def test_what_is_no_secret_is_not_taken_for_one(key):
    assert not config.is_secret(key)


def test_jobs_have_limits():
    with pytest.raises(FormatError):
        config.remote("a", {"url": "x", "jobs": 0})
    with pytest.raises(UsageError):
        config.remote("a", {})
