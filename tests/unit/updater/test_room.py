# SPDX-License-Identifier: Apache-2.0
"""Room for all of an update is asked for before the first byte of it, on a real file system that is too small."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from lab.publishing import Publisher, platform, workload
from updater.repository.export import export_bundle

SIZE = 2_000_000
"""Of each of two artifacts: one of them fits into 4 MiB, and both do not."""

HOST = """
    import subprocess, sys
    from pathlib import Path
    from content.errors import StorageFull
    from content.store import ContentStore
    from keys.anchor import TrustAnchor
    from updater.bundle import BundleReader
    from updater.client.bundle_source import BundleSource
    from updater.client.transaction import STATE_ROOM, Places, Update

    root, folder, now, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    asked = []

    class Counting(BundleSource):
        def open(self, name, start=0, length=None):
            asked.append(name)
            return super().open(name, start, length)

    store = ContentStore(root / "store")
    update = Update(Places.below(root), TrustAnchor((folder / "anchor").read_bytes()), store, "0.1.0")
    update.recover()
    with BundleReader(folder / "bundle") as reader:
        apply = lambda: update.apply(Counting(reader), ("platform", "desktop"), now=now)
        try:
            apply()
        except StorageFull as error:
            assert 2 * size + STATE_ROOM < error.needed < 2 * size + 2 * STATE_ROOM, error.needed
            assert f"make room for {error.needed} bytes" in error.line(), error.line()
        else:
            raise AssertionError("it fitted")
        assert any(name.startswith("metadata/") for name in asked)
        assert not [name for name in asked if name.startswith(("blobs/", "packs/"))], asked
        assert update.journal.state == "idle"
        subprocess.run(["mount", "-o", "remount,size=8m", root], check=True)
        assert apply().number == 1
    """


def test_an_update_that_does_not_fit_as_a_whole_is_not_begun(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    for number, (make, kind) in enumerate(((platform, "host-files"), (workload, "image"))):
        artifact, path = publisher.artifact(f"a/{kind}", kind, bytes([number]) * SIZE)
        publisher.publish(make(1, artifact), path)
    export_bundle(publisher.repository, ("platform", "desktop"), tmp_path / "bundle")
    (tmp_path / "anchor").write_bytes(publisher.anchor)
    (tmp_path / "host").mkdir()
    mount = 'mount -t tmpfs -o size=4m,mode=0755 none "$1" && exec "$2" -c "$3" "$1" "$4" "$5" "$6"'
    space = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    script = textwrap.dedent(HOST)
    arguments = [tmp_path / "host", sys.executable, script, tmp_path, str(publisher.now), str(SIZE)]
    run = subprocess.run([*space, "sh", "-c", mount, "sh", *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
