# SPDX-License-Identifier: Apache-2.0
"""The demo's steps. Each shows the commands that it runs and raises RuntimeError when something is not as it should be.

Refusals are steps like any other: a VM that starts when it should not is a failure.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import agent as agent_package
from lab.host import Host, Result
from lab.libvirt_host import LibvirtHost
from lab.publisher import HIDE, VM_NAME, VMGATE, Desk

GATE_LINE = "error[AG010]"


def require(good: bool, what: str) -> None:
    """Fail the step unless it is so."""
    if not good:
        raise RuntimeError(what)


def say(text: str) -> None:
    """Show output, indented."""
    for line in text.rstrip().splitlines():
        print(f"    {line[:230]}", flush=True)


class Story:
    """What the steps share.

    Args:
        folder: everything lies below it.
        cache: packages, tools and wheel.
        libvirt: private, running.
    """

    def __init__(self, folder: Path, cache: Path, libvirt: LibvirtHost) -> None:
        self.folder = folder
        self.libvirt = libvirt
        self.desk = Desk(folder / "publisher", cache, hidden=folder / "host")
        self.verifier = folder / "verifier"
        self.host: Host | None = None
        self.web: subprocess.Popen[str] | None = None
        self.control: Path = folder / "control"
        self.pcr_before = ""

    def on_host(self, *arguments: str | Path, exit: int = 0) -> Result:  # noqa: A002 (the word of the contract)
        """Run a command on the host, show it, and require its exit code."""
        print(f"  $ vmgate {' '.join(map(str, arguments))}".replace(str(self.folder), "..."), flush=True)
        require(self.host is not None, "there is no host yet")
        result = self.host.vmgate(*arguments)  # type: ignore[union-attr]
        say((result.out if "-o" not in arguments else "") + result.err)
        require(result.exit == exit, f"vmgate {arguments[0]} exited {result.exit}, not {exit}: {result.err}")
        return result

    def start_agent(self) -> None:
        """Start the host's agent."""
        print("  $ vmgate agent run &", flush=True)
        require(self.host is not None, "there is no host yet")
        say(self.host.start_agent())  # type: ignore[union-attr]

    def virsh(self, *arguments: str, good: bool) -> str:
        """Run virsh, show it, and require that it works or fails."""
        print(f"  $ virsh {' '.join(arguments)}", flush=True)
        done = self.libvirt.virsh(*arguments, check=False)
        # libvirt puts the whole environment of the hook before what it said.
        say(done.stdout + re.sub(r"Child process \(.*?\) unexpected", "the hook: unexpected", done.stderr))
        require((done.returncode == 0) == good, f"virsh {arguments[0]} exited {done.returncode}")
        return done.stderr

    def vmm_pcr(self) -> str:
        """The host's PCR 13, SHA-256 bank."""
        shown = json.loads(self.on_host("measure", "show", "-o", "json").out)
        return next(p["value"] for p in shown["pcrs"] if p["bank"] == "sha256" and p["pcr"] == 13)

    def state(self) -> str:
        """The VM's state, as libvirt has it."""
        return self.libvirt.virsh("domstate", VM_NAME).stdout.strip()

    def stored(self, kind: str, name: str = "") -> Path:
        """The stored blob of an active artifact."""
        require(self.host is not None, "there is no host yet")
        root = self.host.root / "var/lib/vmgate"  # type: ignore[union-attr]
        generation = json.loads((root / "generations/current/generation.json").read_bytes())
        for release in generation["releases"]:
            for artifact in json.loads(base64.b64decode(release))["artifacts"]:
                if artifact["kind"] == kind and name in artifact["name"]:
                    return root / "store" / artifact["fsverity"][:2] / artifact["fsverity"]
        raise RuntimeError(f"no active artifact is a {kind}")

    def close(self) -> None:
        """End everything that the demo started."""
        if self.web is not None:
            self.web.terminate()
            self.web.wait()
        if self.host is not None:
            self.host.close()


def keys_and_repository(story: Story) -> str:
    """Step 1."""
    print("  $ vmgate repo init repository --keys keys --anchor root.json      (as the publisher)")
    say(story.desk.init())
    canary = story.folder / "host/canary"
    canary.touch()
    seen = story.desk.isolated("find", canary.parent, *HIDE, "-mindepth", "1")
    canary.unlink()
    require(seen == "", f"the publisher sees the host: {seen[:200]}")
    for path in story.desk.keys.glob("*.pem"):
        require("ENCRYPTED" in path.read_text().splitlines()[0], f"{path} is not encrypted")
    return f"{len(list(story.desk.keys.glob('*.pem')))} keys, all encrypted; root 2 of 3"


def something_to_run(story: Story) -> str:
    """Step 2."""
    image = story.desk.build_image("1", "hello-1")
    say(f"made {image.name}: {image.stat().st_size} bytes, Debian's cloud kernel and busybox, signed for Secure Boot")
    return f"image of {image.stat().st_size // 2**20} MiB"


def first_releases(story: Story) -> str:
    """Step 3."""
    print("  $ vmgate repo release repository platform.toml --keys keys")
    say(story.desk.release(story.desk.write_platform(firmware_vars="vars-1.fd", max_memory_mib=1024)))
    print("  $ vmgate repo release repository workload.toml --keys keys")
    workload = story.desk.write_workload(title="Hello, build 1", image="hello-1.img", accepts=(1, 9))
    say(story.desk.release(workload))
    print("  $ vmgate repo verify repository")
    say(story.desk.vmgate("repo", "verify", story.desk.repository))
    return "from packages, wheel and firmware; policies signed"


def set_up_host(story: Story) -> str:
    """Step 4."""
    story.web = subprocess.Popen(
        [str(VMGATE), "repo", "serve", str(story.desk.repository), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    line = story.web.stdout.readline() if story.web.stdout else ""
    say(line)
    story.host = Host(story.folder / "host", story.libvirt)
    story.host.tpm.start()
    settings = story.host.settings(line.split(" at ")[1].strip())
    story.on_host("init", "--anchor", story.desk.anchor, "--settings", settings)
    story.libvirt.restart_libvirtd()
    story.start_agent()
    story.on_host("status", exit=7)
    return "own software TPM, AK, agent, hook in a private libvirt"


def update(story: Story) -> str:
    """Step 5."""
    story.on_host("update", "apply")
    story.on_host("update", "history")
    return "releases 1 fetched over HTTP, verified, staged, switched"


def measured(story: Story) -> str:
    """Step 6."""
    story.on_host("measure", "log")
    story.pcr_before = story.vmm_pcr()
    release = json.loads(story.on_host("attest", "self", "-o", "json").out)
    require(release["verdict"]["level"] == "L0", "a software TPM must be L0")
    require(release["verdict"]["status"] == "warning", "L0 is at most a warning")
    story.on_host("status")
    return f"PCR 13 = {story.pcr_before[:16]}..., level L0"


def gate(story: Story) -> str:
    """Step 7."""
    host = story.host
    require(host is not None, "there is no host yet")
    story.on_host("vm", "start", VM_NAME)
    text = host.console_until("vmgate-guest: ready", VM_NAME)  # type: ignore[union-attr]
    console = story.on_host("vm", "console", VM_NAME).out
    for wanted in ("build=1", "hwrng=", "pcr 7=", "secure-boot=1"):
        require(
            f"vmgate-guest: {wanted}" in text and f"vmgate-guest: {wanted}" in console, f"no {wanted} on the console"
        )
    story.on_host("vm", "kill", VM_NAME)
    story.virsh("start", VM_NAME, good=True)
    story.on_host("vm", "list")
    story.virsh("destroy", VM_NAME, good=True)
    print("  (the agent is stopped)")
    host.stop_agent()  # type: ignore[union-attr]
    require("AG003" in story.virsh("start", VM_NAME, good=False), "the hook did not say that the agent is away")
    story.start_agent()
    return "vmgate and virsh start both passed the gate; no agent, no VM"


def attest(story: Story) -> str:
    """Step 8."""
    story.verifier.mkdir(exist_ok=True)
    require(story.host is not None, "there is no host yet")
    shutil.copy(story.host.root / "var/lib/vmgate/tpm/ak.pub", story.verifier)  # type: ignore[union-attr]
    shutil.copy(story.desk.anchor, story.verifier)
    targets = story.desk.repository / "targets/releases"
    for channel in ("platform", "workload"):
        newest = max(targets.glob(f"{channel}/*.[0-9]*.json"), key=lambda path: int(path.name.split(".")[1]))
        shutil.copy(newest, story.verifier / f"{channel}.json")
        artifacts = json.loads(newest.read_bytes())["artifacts"]
        for artifact in artifacts:
            if artifact["kind"] == "security-policy":
                blob = artifact["fsverity"]
                shutil.copy(story.desk.repository / "blobs" / blob[:2] / blob, story.verifier / "policy.json")
    nonce = secrets.token_hex(32)
    evidence = story.verifier / "evidence.json"
    story.on_host("attest", "evidence", "--nonce", nonce, "--out", evidence)
    ear = json.loads(_verify(story, nonce, good=True))
    say(json.dumps(ear, indent=1)[:900])
    status = ear["submods"]["platform"]["ear.status"]
    require(status in ("warning", 32), f"the EAR says {status}")
    _verify(story, secrets.token_hex(32), good=False)
    return "fresh quote verified by a separate process; replay refused"


def _verify(story: Story, nonce: str, *, good: bool) -> str:
    """Run the verifier where there is no host, no TPM, no network."""
    script = f'mount --make-rprivate /; mount -t tmpfs tmpfs {story.folder}/host; exec "$@"'
    command = [
        "unshare", "-m", "-n", "sh", "-ec", script, "sh", str(VMGATE), "attest", "verify", "evidence.json",
        "--release", "platform.json", "--release", "workload.json", "--ak", "ak.pub", "--nonce", nonce,
        "--anchor", "root.json", "--policy", "policy.json",
    ]  # fmt: skip
    print(f"  $ vmgate attest verify evidence.json --release platform.json --release workload.json --ak ak.pub "
          f"--nonce {nonce[:8]}... --anchor root.json --policy policy.json")  # fmt: skip
    done = subprocess.run(command, cwd=story.verifier, capture_output=True, text=True, check=False)
    say(done.stderr)
    require(done.returncode == (0 if good else 5), f"the verifier exited {done.returncode}")
    return done.stdout


def refuse(story: Story) -> str:
    """Step 9."""
    host = story.host
    require(host is not None, "there is no host yet")
    image = story.stored("image")
    _flip(image)
    print("  (one byte of the installed image is flipped)")
    before = story.vmm_pcr()
    line = story.on_host("vm", "start", VM_NAME, exit=5).err
    require(GATE_LINE in line and "image" in line, "the refusal does not name the image")
    require(GATE_LINE in story.virsh("start", VM_NAME, good=False), "virsh does not show the gate's line")
    why = story.on_host("vm", "why", VM_NAME).out
    require("fail" in why and "image" in why, "vm why does not tell the check")
    require(story.state() == "shut off", "the VM is not off")
    require(story.vmm_pcr() == before, "a refusal extended the TPM")
    listed = story.on_host("audit", "list", "--event", "vm-start", "--last", "1").out
    require("refused" in listed, "the audit trail does not tell the refusal")
    story.on_host("audit", "verify")
    _flip(image)
    print("  (put back)")
    story.on_host("vm", "start", VM_NAME)
    story.on_host("vm", "kill", VM_NAME)
    named = _refuse_components(story)
    print("  (the hook is replaced by one that always agrees; libvirt goes on running)")
    hook = story.libvirt.hook.read_bytes()
    story.libvirt.hook.write_text("#!/bin/sh\nexit 0\n")
    error = story.virsh("start", VM_NAME, good=False)
    require("secret" in error.lower(), "the VM's TPM opened without the gate")
    story.libvirt.hook.unlink()
    print("  (and removed)")
    story.virsh("start", VM_NAME, good=False)
    story.libvirt.hook.write_bytes(hook)
    story.libvirt.hook.chmod(0o755)
    return f"image, {named} components named; without hook the VM's TPM is shut"


def _flip(path: Path, offset: int = 4096) -> None:
    """Flip one byte in place, as an attacker with root would; flipping it again puts it back."""
    offset = min(offset, path.stat().st_size // 2)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def _refuse_components(story: Story) -> int:
    """Change each component of the VMM before a start and see it named; put back, the VM is let start again."""
    host = story.host
    require(host is not None, "there is no host yet")
    site = Path(agent_package.__file__).parent
    changed = {
        "repository": host.root / "var/lib/vmgate/root.json",  # type: ignore[union-attr]
        "vmm/host-files": Path("/usr/bin/qemu-system-x86_64"),
        "vmm/firmware-code": story.stored("firmware-code"),
        "vmm/firmware-vars": story.stored("firmware-vars"),
        "vmgate/build": site / "paths.py",
        "vmgate/hook": story.libvirt.hook,
        "vmgate/security-policy": story.stored("security-policy"),
    }
    for component, path in changed.items():
        with _changed(path, story.folder):
            line = story.on_host("vm", "start", VM_NAME, exit=5).err
            require(f"of {component}" in line, f"{component} is not named")
    story.on_host("vm", "start", VM_NAME)
    story.on_host("vm", "kill", VM_NAME)
    return len(changed)


@contextmanager
def _changed(path: Path, folder: Path) -> Iterator[None]:
    """Let a changed copy lie over a file of this mount namespace; the machine's own file is not touched."""
    copy = folder / "changed"
    copy.write_bytes(path.read_bytes() + b"\n# changed\n")
    shutil.copymode(path, copy)
    subprocess.run(["mount", "--bind", copy, path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def offline_switch(story: Story) -> str:
    """Step 10."""
    host = story.host
    require(host is not None and story.web is not None, "there is no host yet")
    _control("seal", story)
    print("  (a control blob is sealed by the plain value of PCR 13)")
    require(_control("open", story), "the control blob does not open before the update")
    story.desk.rotate_owner()
    story.desk.build_image("2", "hello-2")
    say(story.desk.release(story.desk.write_platform(firmware_vars="vars-2.fd", max_memory_mib=768)))
    workload = story.desk.write_workload(title="Hello, build 2", image="hello-2.img", accepts=(2, 9), memory_mib=640)
    say(story.desk.release(workload))
    bundle = story.folder / "releases-2.bundle"
    print("  $ vmgate bundle create repository releases-2.bundle")
    say(story.desk.bundle(bundle))
    story.web.terminate()  # type: ignore[union-attr]
    story.web.wait()  # type: ignore[union-attr]
    story.web = None
    print("  (the web server is stopped)")
    story.on_host("update", "apply", exit=8)
    story.on_host("bundle", "verify", bundle, "--anchor", story.desk.anchor)
    story.on_host("update", "import", bundle)
    after = story.vmm_pcr()
    require(after != story.pcr_before, "PCR 13 did not change")
    require(not _control("open", story), "the control blob opened")
    story.on_host("vm", "start", VM_NAME)
    host.console_until("vmgate-guest: build=2", VM_NAME)  # type: ignore[union-attr]
    host.console_until("vmgate-guest: ready", VM_NAME)  # type: ignore[union-attr]
    return "by bundle, within the boot; plain sealing shut, the VM's key opens"


def power_cycle(story: Story) -> str:
    """Step 11."""
    host = story.host
    require(host is not None, "there is no host yet")
    switched = story.vmm_pcr()
    print("  (power off; the software TPM keeps its state, PCRs are cleared)")
    host.power_cycle()  # type: ignore[union-attr]
    story.start_agent()
    fresh = story.vmm_pcr()
    require(fresh not in (switched, story.pcr_before), "PCR 13 is not that of a fresh boot of release 2")
    require(not _control("open", story), "the control blob opened")
    require(_control("other-key", story), "the host's key opened by a policy of another key")
    print("  (the host's key stays shut for a policy that another key signed)")
    story.on_host("vm", "start", VM_NAME)
    host.console_until("vmgate-guest: ready", VM_NAME)  # type: ignore[union-attr]
    attest(story)
    story.on_host("vm", "kill", VM_NAME)
    story.on_host("audit", "verify")
    story.on_host("status")
    return "plain sealing shut, other signer shut, the VM's key opens"


def _control(what: str, story: Story) -> bool:
    """Use the host's TPM beside the agent, which is stopped meanwhile: a TPM socket has room for one."""
    host = story.host
    require(host is not None, "there is no host yet")
    host.stop_agent()  # type: ignore[union-attr]
    command = [
        sys.executable, str(Path(__file__).with_name("control.py")), what, host.tpm.tcti,  # type: ignore[union-attr]
        str(story.control), str(host.root / "var/lib/vmgate"),  # type: ignore[union-attr]
    ]  # fmt: skip
    environment = os.environ | {"TSS2_LOG": "all+none"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    say(done.stdout)
    require(done.returncode in (0, 3), f"the control failed: {done.stderr[-500:]}")
    host.start_agent()  # type: ignore[union-attr]
    return done.returncode == 0


STEPS: tuple[tuple[str, Callable[[Story], str]], ...] = (
    ("Keys and repository", keys_and_repository),
    ("Something real to run", something_to_run),
    ("Reference values from artifacts", first_releases),
    ("A host", set_up_host),
    ("Update over HTTP", update),
    ("Measure", measured),
    ("Gate", gate),
    ("Attest", attest),
    ("Refuse", refuse),
    ("Offline update, live switch", offline_switch),
    ("Power cycle, measured anew", power_cycle),
)
