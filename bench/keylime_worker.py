# SPDX-License-Identifier: Apache-2.0
"""What Keylime's verifier does, timed inside of Keylime's own environment; ``bench/attest.py`` starts and asks it.

Runs with Keylime 7 and the standard library alone, and imports nothing of ours. Reads one JSON object of inputs from
its standard input, then one request a line, ``{"case": ..., "count": ...}``; answers each with the seconds that so many
calls took, by the clock and by the processor, children included.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import tempfile
import time
import types
from collections.abc import Callable


def cases(inputs: dict[str, object]) -> dict[str, Callable[[], bool]]:
    """Each case by its name; a call says whether Keylime took what it was given."""
    os.environ.setdefault("KEYLIME_DIR", tempfile.mkdtemp())
    # For signatures of allow lists and for revocation: not on the measured path.
    sys.modules["gpg"] = types.ModuleType("gpg")
    sys.modules["zmq"] = types.ModuleType("zmq")
    logging.disable(logging.CRITICAL)
    import keylime.config  # noqa: F401, PLC0415 (must come first)
    from keylime.common.algorithms import Hash  # noqa: PLC0415
    from keylime.ima import ima  # noqa: PLC0415
    from keylime.mba.elparsing import tpm2_tools_elparser  # noqa: PLC0415
    from keylime.tpm.tpm_main import Tpm  # noqa: PLC0415

    policy = ima.empty_policy()
    policy["digests"] = inputs["digests"]

    def quote(kind: str) -> bool:
        ak, quoted, nonce = inputs[f"{kind}_ak"], inputs[f"{kind}_quote"], inputs["nonce"]
        return Tpm._tpm2_checkquote(ak, quoted, nonce, "sha256", False)[1] == ""  # noqa: FBT003, SLF001

    def boot_log() -> bool:
        pcrs, _, _, failure = tpm2_tools_elparser.bootlog_parse(inputs["boot_log"], "sha256")
        return bool(pcrs) and not failure

    def ima_list() -> bool:
        _, failure = ima.process_measurement_list(
            None, inputs["ima"], policy, pcrval=inputs["pcr10"], hash_alg=Hash.SHA256
        )
        return not failure

    return {
        "quote-ecc": lambda: quote("ecc"),
        "quote-rsa": lambda: quote("rsa"),
        "boot-log": boot_log,
        "ima": ima_list,
    }


def used() -> float:
    """Seconds of the processor, of this process and its children."""
    return sum(
        account.ru_utime + account.ru_stime
        for account in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    """Answer until the input ends."""
    known = cases(json.loads(sys.stdin.readline()))
    # What a library prints must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        call = known[request["case"]]
        accepted = call()
        wall, processor = time.perf_counter(), used()
        for _ in range(request["count"]):
            call()
        wall, processor = time.perf_counter() - wall, used() - processor
        print(json.dumps({"accepted": accepted, "wall": wall, "cpu": processor}), file=answers, flush=True)


if __name__ == "__main__":
    main()
