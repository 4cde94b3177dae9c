# Thin on purpose: every target calls a program that can be called by hand.
.PHONY: up down status test test-long test-unit test-jitsi test-openstack soak lint format lock bench bench-call-cost bench-failover bench-idle bench-scale bench-jitsi-call clean-machine openstack-lab

up:            ## install what is missing, build the images, bring the stack up
	./smd up

down:          ## remove all that `make up` made
	./smd down

status:        ## the replicas and their states
	./smd status

test:          ## every test
	tests/run all

test-long:     ## everything there is: more runs, and what make test leaves out (docs/testing.md)
	tests/run long

test-unit:     ## the fast tests only
	tests/run unit

test-jitsi:    ## calls in rooms of a real Jitsi Meet, started from what is installed here
	tests/run jitsi

test-openstack: ## a whole stack on a real OpenStack, which is brought up for it: calls and faults
	tests/run openstack

openstack-lab: ## a real OpenStack on this machine, for tests and for trying (tests/lab/openstack/README.md)
	tests/lab/openstack/lab up

SEEDS ?= 2000
SEED_START ?= 0
soak:          ## histories of faults, as many as wanted: make soak SEEDS=5000 SEED_START=1000
	tests/run soak --seeds $(SEEDS) --start $(SEED_START)

lint:          ## format, lint and type checks
	tests/run lint

format:        ## put everything into the project's format
	tests/run format

lock:          ## resolve the dependencies again
	tests/run lock

bench: bench-call-cost bench-failover bench-idle bench-scale  ## print the project's figures (bench-jitsi-call needs a Jitsi installed)

bench-call-cost:
	tests/run bench call_cost

bench-failover:
	tests/run bench failover

bench-idle:
	tests/run bench idle

bench-scale:
	tests/run bench scale

bench-jitsi-call:
	tests/run bench jitsi_call

clean-machine: ## the README's commands on a fresh Debian 12 root file system
	tests/clean-machine
