# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` are all the set-up there is. Each installs what is missing, says so, and can be run again.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long conformance rig rig-shell rig-vectors deb deb-lock bench release venv ready clean

# Real TPMs, mounts and VMs need root; on a machine where you are not, sudo asks.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo env CI="$(CI)" VMGATE_ALLOW_SKIP="$(VMGATE_ALLOW_SKIP)")

help:
	@echo "make demo       the main job, end to end, on real parts (software TPM, QEMU, libvirt of its own)"
	@echo "make test       what CI runs: lint, types, architecture, unit, attack and integration tests"
	@echo "make test-long  the same, and what takes longer"
	@echo "make conformance SUITE=DIR  the public TUF conformance suite, from a checkout of it, against our client"
	@echo "make rig        build a whole host as a VM, boot it, and see that it is what it should be"
	@echo "make rig-shell  the same host for you to look around in; nothing is left of it afterwards"
	@echo "make rig-vectors  boot it and keep its logs and evidence as tests/vectors/rig"
	@echo "make deb        the Debian package, in dist: the same bytes from the same sources"
	@echo "make deb-lock   choose anew which versions of other people's packages it holds"
	@echo "make bench      every benchmark beside its peers, and docs/benchmarks.md of what came out"
	@echo "make release KEY=FILE  dist/: wheel built twice, bill of materials, SWID tag, provenance, signed list"
	@echo "make venv       .venv/bin/vmgate, installed from this checkout"
	@echo "make clean      remove .venv, caches and all that was built (system packages stay)"

demo: ready
	@$(AS_ROOT) .venv/bin/python tests/demo/run.py

test: ready
	@$(AS_ROOT) .venv/bin/tox

test-long: ready
	@$(AS_ROOT) .venv/bin/tox -e lint,types,architecture,long

conformance: venv
	@test -d "$(SUITE)/tuf_conformance" || { \
	    echo "SUITE=DIR must be a checkout of https://github.com/theupdateframework/tuf-conformance"; exit 2; }
	@SUITE="$(abspath $(SUITE))" .venv/bin/tox -e conformance

rig: ready
	@$(AS_ROOT) .venv/bin/tox -e rig

rig-shell: ready
	@$(AS_ROOT) env PYTHONPATH=tests:packaging .venv/bin/python -m rig.shell

rig-vectors: ready
	@$(AS_ROOT) env PYTHONPATH=tests:packaging .venv/bin/python -m rig.capture

deb: venv
	@PYTHONPATH=packaging .venv/bin/python -m deb.build .cache/wheel .cache/deb-wheels dist

deb-lock: venv
	@PYTHONPATH=packaging .venv/bin/python -m deb.wheels .cache/wheel

bench: ready
	@PYTHONPATH=.:tests .venv/bin/python -P bench/all.py $(BENCH_ARGUMENTS)

release: venv
	@test -n "$(KEY)" || { echo "KEY=FILE must be the encrypted key of releases: docs/guide/release.md"; exit 2; }
	@PYTHONPATH=. .venv/bin/python -P -m release --key "$(KEY)"

venv:
	@.ci/system-packages
	@.ci/venv

ready: venv
	@.ci/fetch

clean:
	$(AS_ROOT) rm -rf .venv .tox .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	    build dist demo-work
	$(AS_ROOT) find . -name __pycache__ -type d -prune -exec rm -rf {} +
