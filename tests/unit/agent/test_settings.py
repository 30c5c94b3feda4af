# SPDX-License-Identifier: Apache-2.0
"""Settings are read strictly: whatever is wrong with the file is one line, and nothing is half read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audit_settings import AuditSettings, address
from agent.errors import NotReady, SettingsWrong
from agent.settings import MAX_BYTES, Settings, load, parse
from agent.update_settings import UpdateSettings, read, zone
from documents.errors import Exit, VmgateError

GOOD = b"""\
# Comments are for people.
repository = "https://updates.example.org/vmgate"
channels = ["work", "platform"]
host = "desk-7.example.org"
tpm = "device:/dev/tpmrm0"
libvirt = "qemu:///system"
hook = "/etc/libvirt/hooks/qemu"
accelerator = "emulation"
mirrors = ["https://near.example.org/vmgate", "http://[::1]:8080"]
proxy = "http://proxy.example.org:3128"
ca_file = "/etc/vmgate/site-ca.pem"
bandwidth = 1_000_000
"""

SITE_DIGEST = b"5a" * 32
SITE = b'[site]\nchannels = ["desk"]\nanchor = "/etc/vmgate/site.json"\nidentity = "sha256:' + SITE_DIGEST + b'"\n'

LOGS = b'[audit]\nserver = "tls://host:1"\nca_file = "/ca"\n'

BAD = {
    "unknown key": (b'acelerator = "kvm"', "the key 'acelerator' is unknown"),
    "unknown table": (b"[upgrade]\nwindow = 1", "the key 'upgrade' is unknown"),
    "unknown key of a table": (b"[update]\nwindow = 1", "the key 'update.window' is unknown"),
    "text for a table": (b'update = "now"', "update is not a table"),
    "windows that are a text": (b'[update]\nwindows = "22:00-05:00"', "is not a list"),
    "window of another form": (b'[update]\nwindows = ["at night"]', "is not as 'Mon-Fri 22:00-05:00'"),
    "window of half an hour": (b'[update]\nwindows = ["22:00-22:30"]', "of an hour or more"),
    "too many windows": (b"[update]\nwindows = [" + b'"22:00-23:30",' * 33 + b"]", "at most 32"),
    "unknown zone": (b'[update]\ntimezone = "Europe/Nowhere"', "'update.timezone' is not in its form"),
    "zone that is a path": (b'[update]\ntimezone = "../../etc/passwd"', "'update.timezone' is not in its form"),
    "zone that is a folder": (b'[update]\ntimezone = "Europe"', "'update.timezone' is not in its form"),
    "unknown meaning of metered": (b'[update]\nmetered = "sometimes"', "'update.metered' is not in its form"),
    "days that are a truth": (b"[update]\nstale_days = true", "'update.stale_days' is not in its form"),
    "no days": (b"[update]\nstale_days = 0", "'update.stale_days' is not in its form"),
    "hook without end": (b"[update]\nhook_seconds = 901", "'update.hook_seconds' is not in its form"),
    "site that is a text": (b'site = "here"', "site is not a table"),
    "unknown key of a site": (SITE + b"mirrors = []", "the key 'site.mirrors' is unknown"),
    "site without an anchor": (SITE.replace(b"anchor", b"#"), "site wants site.anchor"),
    "site without a digest of its anchor": (SITE.replace(b"identity", b"#"), "site wants site.identity"),
    "site without channels": (SITE.replace(b"channels", b"#"), "site wants site.channels"),
    "site with no channel": (SITE.replace(b'"desk"', b""), "is not a list of 1 to 16 names"),
    "site with a channel that is no name": (SITE.replace(b"desk", b"../x"), "an item that is not a name"),
    "site with a channel twice": (SITE.replace(b'"desk"', b'"desk", "desk"'), "site.channels has a name twice"),
    "site with half a digest": (SITE.replace(SITE_DIGEST, b"5a"), "'site.identity' is not in its form"),
    "site with an anchor from here": (SITE.replace(b"/etc/", b""), "'site.anchor' is not in its form"),
    "site at no address": (SITE + b'repository = "ftp://x"', "'site.repository' is not in its form"),
    "channel of two masters": (SITE.replace(b"desk", b"platform"), "'platform' is of both channels and site.channels"),
    "audit that is a text": (b'audit = "on"', "audit is not a table"),
    "unknown key of audit": (b"[audit]\nservers = 1", "the key 'audit.servers' is unknown"),
    "log server without TLS": (b'[audit]\nserver = "udp://host:514"', "'audit.server' is not in its form"),
    "log server without a port": (b'[audit]\nserver = "tls://host"', "'audit.server' is not in its form"),
    "log server with a huge port": (b'[audit]\nserver = "tls://host:70000"', "'audit.server' is not in its form"),
    "log server with a path": (b'[audit]\nserver = "tls://host:1/x"', "'audit.server' is not in its form"),
    "log server of any authority": (b'[audit]\nserver = "tls://host:1"', "wants audit.ca_file"),
    "log server without revocation": (LOGS, 'wants audit.crl_file, or audit.revocation = "unsafe-none"'),
    "revocation of two minds": (LOGS + b'crl_file = "/crl"\nrevocation = "unsafe-none"', "contradict each other"),
    "unknown revocation": (LOGS + b'revocation = "none"', "'audit.revocation' is not in its form"),
    "relative list": (LOGS + b'crl_file = "crl.pem"', "'audit.crl_file' is not in its form"),
    "key without a certificate": (LOGS + b'crl_file = "/crl"\nclient_key = "/key"', "wants audit.client_cert"),
    "files for no log server": (b'[audit]\nca_file = "/ca"', "no audit.server"),
    "no hours": (LOGS + b'crl_file = "/crl"\nalarm_hours = 0', "'audit.alarm_hours' is not in its form"),
    "hours that are a truth": (LOGS + b'crl_file = "/crl"\nalarm_hours = true', "'audit.alarm_hours'"),
    "another policy for a full disk": (b'[audit]\nfull = "drop"', "'audit.full' is not in its form"),
    "key with a line end": (b'"a\\nb" = 1', "is unknown"),
    "name that is a path": (b'host = "../other"', "'host' is not in its form"),
    "number for a text": (b"repository = 1", "'repository' is not in its form"),
    "truth for a text": (b"tpm = true", "'tpm' is not in its form"),
    "list for a text": (b'hook = ["/a"]', "'hook' is not in its form"),
    "table for a text": (b"libvirt = {}", "'libvirt' is not in its form"),
    "text for a list": (b'channels = "platform"', "channels is not a list"),
    "no channels": (b"channels = []", "channels is not a list"),
    "repeated channel": (b'channels = ["a", "a"]', "distinct"),
    "too many channels": (
        b"channels = [" + b",".join(b'"c%d"' % n for n in range(17)) + b"]",
        "channels is not a list",
    ),
    "number among the channels": (b"channels = [1]", "not a name"),
    "list among the channels": (b'channels = [["a"]]', "not a name"),
    "channel that is a huge number": (b"channels = [0x" + b"f" * 5_000 + b"]", "not a name"),
    "channel that is a deep table": (b"channels = [{" + b"a." * 5_000 + b"a = 1}]", "not a name"),
    "channel that is a path": (b'channels = ["../platform"]', "not a name"),
    "other protocol": (b'repository = "file:///etc/passwd"', "'repository' is not in its form"),
    "password in the address": (b'repository = "http://user:secret@host/"', "'repository' is not in its form"),
    "remote libvirt": (b'libvirt = "qemu+ssh://host/system"', "'libvirt' is not in its form"),
    "relative hook": (b'hook = "hooks/qemu"', "'hook' is not in its form"),
    "hook with a line end": (b'hook = "/etc/hook\\n"', "'hook' is not in its form"),
    "unknown accelerator": (b'accelerator = "tcg"', "'accelerator' is not in its form"),
    "empty accelerator": (b'accelerator = ""', "'accelerator' is not in its form"),
    "address without a host": (b'repository = "http://:80/"', "'repository' is not in its form"),
    "address with wrong brackets": (b'repository = "http://[::1/"', "'repository' is not in its form"),
    "address with a wrong port": (b'repository = "http://host:99999/"', "'repository' is not in its form"),
    "text for mirrors": (b'mirrors = "http://host/"', "mirrors is not a list of at most 8"),
    "too many mirrors": (
        b"mirrors = [" + b",".join(b'"http://h%d/"' % n for n in range(9)) + b"]",
        "mirrors is not a list of at most 8",
    ),
    "number among the mirrors": (b"mirrors = [1]", "not an address"),
    "list among the mirrors": (b'mirrors = [["http://host/"]]', "not an address"),
    "empty mirror": (b'mirrors = [""]', "not an address"),
    "mirror in a folder": (b'mirrors = ["file:///srv"]', "not an address"),
    "mirror without a host": (b'mirrors = ["http:///x"]', "not an address"),
    "mirror with a query": (b'mirrors = ["http://host/?a"]', "not an address"),
    "repeated mirror": (b'mirrors = ["http://host/", "http://host/"]', "mirrors has an address twice"),
    "password for the proxy": (b'proxy = "http://user:secret@proxy/"', "'proxy' is not in its form"),
    "proxy of another kind": (b'proxy = "socks5://proxy:1080"', "'proxy' is not in its form"),
    "proxy by TLS": (b'proxy = "https://proxy:3128"', "'proxy' is not in its form"),
    "proxy with a path": (b'proxy = "http://proxy/x"', "'proxy' is not in its form"),
    "proxy without a host": (b'proxy = "http://:3128"', "'proxy' is not in its form"),
    "relative certificates": (b'ca_file = "ca.pem"', "'ca_file' is not in its form"),
    "truth for certificates": (b"ca_file = false", "'ca_file' is not in its form"),
    "negative bandwidth": (b"bandwidth = -1", "'bandwidth' is not in its form"),
    "tiny bandwidth": (b"bandwidth = 9_999", "'bandwidth' is not in its form"),
    "huge bandwidth": (b"bandwidth = 1_000_000_000_001", "'bandwidth' is not in its form"),
    "bandwidth with a point": (b"bandwidth = 1e6", "'bandwidth' is not in its form"),
    "truth for bandwidth": (b"bandwidth = true", "'bandwidth' is not in its form"),
    "text for bandwidth": (b'bandwidth = "1M"', "'bandwidth' is not in its form"),
    "repeated key": (b'tpm = "a"\ntpm = "b"', "it is not TOML"),
    "not TOML": (b"{}", "it is not TOML"),
    "half a line": (b"repository =", "it is not TOML"),
    "deep nesting": (b"channels = " + b"[" * 30_000, "it is not TOML"),
    "huge number": (b"channels = " + b"9" * 5_000, ""),
    "zero byte": (b"\0", "it is not TOML"),
    "not UTF-8": (b'tpm = "\xff"', "it is not TOML"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "it is not TOML"),
    "terminal codes": (b'"\\u001b[2J" = 1', "is unknown"),
}


@pytest.mark.parametrize(("untrusted", "cause"), BAD.values(), ids=BAD)
def test_bad_settings_are_one_line(tmp_path: Path, untrusted: bytes, cause: str) -> None:
    path = tmp_path / "vmgate.toml"
    path.write_bytes(untrusted)
    with pytest.raises(SettingsWrong) as caught:
        load(path)
    error = caught.value
    assert error.exit == Exit.USAGE
    assert cause in error.cause
    assert error.line().startswith(f"error[AG017]: {path} was not read; ")
    assert error.line().isprintable()
    assert len(error.line()) < 600


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (b'crl_file = "/crl"', AuditSettings(server="tls://host:1", ca_file="/ca", crl_file="/crl")),
        (b'revocation = "unsafe-none"', AuditSettings(server="tls://host:1", ca_file="/ca", revocation="unsafe-none")),
        (
            b'crl_file = "/crl"\nclient_cert = "/c"\nclient_key = "/k"\nalarm_hours = 2\nfull = "stop"',
            AuditSettings(
                server="tls://host:1", ca_file="/ca", crl_file="/crl", client_cert="/c", client_key="/k", alarm_hours=2
            ),
        ),
    ],
)
def test_a_log_server(more: bytes, expected: AuditSettings) -> None:
    assert parse(LOGS + more, "vmgate.toml").audit == expected


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("tls://Logs.example.org:6514", ("logs.example.org", 6514)),
        ("tls://192.0.2.1:1", ("192.0.2.1", 1)),
        ("tls://[2001:db8::1]:6514", ("2001:db8::1", 6514)),
    ],
)
def test_the_address_of_a_log_server(server: str, expected: tuple[str, int]) -> None:
    assert address(server) == expected


def test_good_settings(tmp_path: Path) -> None:
    path = tmp_path / "vmgate.toml"
    path.write_bytes(GOOD)
    assert load(path) == Settings(
        repository="https://updates.example.org/vmgate",
        channels=("platform", "work"),
        host="desk-7.example.org",
        accelerator="emulation",
        mirrors=("https://near.example.org/vmgate", "http://[::1]:8080"),
        proxy="http://proxy.example.org:3128",
        ca_file="/etc/vmgate/site-ca.pem",
        bandwidth=1_000_000,
    )


def test_the_table_update() -> None:
    text = b"""\
[update]
windows = ["Mon-Fri 22:00-05:00", "Sat,Sun 00:00-24:00"]
timezone = "Europe/Berlin"
metered = "never"
stale_days = 14
notice_seconds = 0
"""
    settings = parse(text, "test").update
    assert [(sorted(window.days), window.start) for window in settings.windows] == [
        ([0, 1, 2, 3, 4], 1320),
        ([5, 6], 0),
    ]
    assert (settings.metered, settings.stale_days, settings.notice_seconds) == ("never", 14, 0)
    assert (settings.hook_seconds, settings.stop_seconds) == (300, 120)
    assert str(zone(settings)) == "Europe/Berlin"
    assert zone(Settings().update) is not None


def test_an_empty_file_gives_the_defaults() -> None:
    settings = parse(b"", "test")
    assert settings == Settings()
    assert settings.accelerator == "kvm", "emulation is never the default"


def test_missing_file_means_not_set_up(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="run `vmgate init") as caught:
        load(tmp_path / "vmgate.toml")
    assert caught.value.exit == Exit.NOT_READY


def test_too_large_a_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "vmgate.toml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(VmgateError) as caught:
        load(path)
    assert str(MAX_BYTES) in caught.value.cause.replace(",", "")


def test_a_directory_in_its_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VmgateError) as caught:
        load(tmp_path)
    assert caught.value.line().isprintable()


@given(
    st.dictionaries(
        st.sampled_from(UpdateSettings.__slots__) | st.text(max_size=8),
        st.text(max_size=20) | st.integers() | st.booleans() | st.floats() | st.lists(st.text(max_size=20), max_size=3),
        max_size=3,
    )
)
def test_any_table_is_read_or_refused(table: dict[str, object]) -> None:
    try:
        settings = read(table, ValueError)
    except ValueError:
        return
    assert set(table) <= set(UpdateSettings.__slots__)
    assert 1 <= settings.stale_days <= 365


@given(st.binary(max_size=80) | st.text("ab\"[]{}=.\\#\n'019-:TZ", max_size=60).map(str.encode))
def test_arbitrary_bytes(untrusted: bytes) -> None:
    try:
        settings = parse(untrusted, "test")
    except SettingsWrong:
        return
    assert settings == Settings()


def test_a_site_is_named_with_the_digest_of_its_anchor() -> None:
    site = parse(SITE + b'repository = "https://site.example.org/vmgate"', "here").site
    assert site.channels == ("desk",)
    assert site.anchor == "/etc/vmgate/site.json"
    assert site.identity == SITE_DIGEST.decode()
    assert site.repository == "https://site.example.org/vmgate"
    # One whose releases come in bundles only has no address, and a host that follows none has no channel of it.
    assert parse(SITE, "here").site.repository == ""
    assert parse(b"", "here").site.channels == ()
