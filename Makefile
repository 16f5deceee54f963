# Each target runs a script of scripts/. ARGS="..." passes options to it.
.DEFAULT_GOAL := help
.PHONY: help setup bench demo demo-kubernetes by-hand image cluster cluster-down unit test test-six-minutes attack fuzz fuzz-requests coverage mutants check lint-workflows docs fmt generate snapshots permissions doctor-answers lock release clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\): ## /\1	/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what the other targets need: Debian packages, .venv, .tools
	@scripts/setup.sh

demo: ## show the whole life of a volume on HyperPod nodes
	@scripts/demo.sh $(ARGS)

demo-kubernetes: ## show a training job that loses its node, on a real Kubernetes
	@scripts/cluster.sh demo $(ARGS)

bench: ## measure the controller on the embedded cloud; with ARGS="--peer PROGRAM" another one beside it
	@scripts/bench.sh $(ARGS)

by-hand: ## attach a volume to a HyperPod node with the AWS CLI, one permission at a time
	@scripts/by-hand.sh

image: ## build the container image into dist/; with ARGS=--arch=arm64 for Graviton nodes
	@scripts/image.sh $(ARGS)

cluster: ## start a real Kubernetes with the driver on this machine, and leave it running
	@scripts/cluster.sh up $(ARGS)

cluster-down: ## stop the Kubernetes that make cluster started
	@scripts/cluster.sh down $(ARGS)

unit: ## run the tests that need no root and no tool except Python; with ARGS="-k attach" some of them
	@scripts/unit.sh $(ARGS)

test: ## run all tests; with ARGS=tests/chart those in a directory, and set up only what they need
	@scripts/test.sh $(ARGS)

test-six-minutes: ## run the one test that waits as long as Kubernetes does for a lost node
	@scripts/test.sh -m six_minutes tests/cluster

attack: ## kill the controller again and again during the lives of volumes, for about ten minutes
	@scripts/test.sh -m attack tests/system

fuzz: ## run the property tests with 2000 examples each; with ARGS="-k pace" some of them
	@scripts/fuzz.sh $(ARGS)

fuzz-requests: ## send a million damaged requests to the emulator, with make test a hundred thousand
	@scripts/test.sh -m "not root" tests/contract/test_mutated_requests.py $(ARGS)

coverage: ## measure the coverage of the unit and contract tests, and compare each package with its floor
	@scripts/coverage.sh

mutants: ## run the tests on mutants of the modules that decide; with ARGS="--seed 2" on other ones
	@scripts/mutants.sh $(ARGS)

check: ## run the linters and type checkers, and compare generated files with their sources
	@scripts/check.sh

lint-workflows: ## check .github/workflows with actionlint
	@scripts/setup.sh python go-tools && .tools/bin/actionlint

fmt: ## format the Python code and sort its imports
	@scripts/fmt.sh

generate: ## generate the gRPC stubs, the chart's schema and the reference pages again
	@scripts/setup.sh python && scripts/generate.sh

docs: ## build the documentation into dist/docs
	@scripts/docs.sh

snapshots: ## render the chart for tests/chart/values again; reviewers read the diff
	@scripts/setup.sh go-tools && scripts/chart/snapshots.sh

permissions: ## run with each permission missing, and write docs/reference/permissions.md and policies.md again
	@scripts/setup.sh python && PYTHONPATH=. .venv/bin/python scripts/docs/permissions.py

doctor-answers: ## plant the faults that the doctor must find, and write docs/reference/doctor.md again
	@scripts/doctor-answers.sh

lock: ## pin the dependencies of pyproject.toml; with ARGS=--upgrade their newest versions
	@scripts/setup.sh python && scripts/lock.sh $(ARGS)

release: ## build all files of a release into dist/, from its tag; with ARGS=--snapshot from any tree
	@scripts/release.sh $(ARGS)

clean: ## remove the files that the other targets made
	@rm -rf .venv .tools dist .*_cache .hypothesis .coverage* src/hyperpod_ebs/driver/aws/models
