# SPDX-License-Identifier: Apache-2.0
"""What `vmgate.toml` says about the way to the repository is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import NotReady
from agent.settings import parse
from agent.transport import web
from documents.errors import Exit
from lab.certificates import Authority
from lab.hostile import Scene, served
from lab.proxy import proxying
from updater.client.source import Source
from updater.errors import CertificatesUnusable, ServerNotTrusted


def _source(settings: str) -> Source:
    """The publisher's repository, as settings say."""
    source = web(parse(settings.encode(), "test")).publisher
    assert source is not None
    return source


def test_mirror_proxy_certificates_and_limit_at_once(stage: Scene, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "site")
    stage.publisher.publish_workload(2, bytes(100_000))
    repository = stage.publisher.repository
    with (
        served(repository, authority.server()) as primary,
        served(repository, authority.server()) as mirror,
        proxying() as proxy,
    ):
        text = f"""\
            repository = "{primary.url}"
            mirrors = ["{mirror.url}"]
            proxy = "{proxy.url}"
            ca_file = "{authority.file}"
            bandwidth = 10_000_000
        """
        assert stage.host.apply(_source(text), stage.now) is not None
        assert {name.partition("/")[0] for name, _ in primary.requests} == {"metadata", "targets"}
        assert {name.partition("/")[0] for name, _ in mirror.requests} == {"blobs"}
        assert proxy.requests == [("CONNECT", s.url[8:].rstrip("/")) for s in (primary, mirror)]
        # Each source learns anew how mirrors behave, and a mirror needs a good certificate like anybody else.
        stage.publisher.publish_workload(3, bytes(200_000))
        other = text.replace(str(authority.file), str(Authority(tmp_path, "other").file))
        stage.host.refuses(ServerNotTrusted, _source(other), stage.now)


def test_a_host_without_a_repository_imports_bundles(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="names no repository"):
        web(parse(b"", "test"))


def test_certificates_that_are_gone_are_told(tmp_path: Path) -> None:
    text = f'repository = "https://127.0.0.1:1/"\nca_file = "{tmp_path}/gone.pem"\n'
    with pytest.raises(CertificatesUnusable) as caught:
        web(parse(text.encode(), "test"))
    assert caught.value.exit == Exit.NOT_READY
