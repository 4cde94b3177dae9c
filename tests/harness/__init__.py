"""What tests and benchmarks share; one file per idea.

- `running`: a stack on Docker as its operator runs it; `waiting`: conditions with a deadline.
- Callers: `terminal` (`smd call`), `baresip`, `sipp`, `browser_participant`; `outside`: another host.
- Faults: `faults` (what breaks); `calls`, `conversation`, `probe` (who notices); `fault_run` (what it cost).
- `failure`: what a failed test shows of its stacks.
- Peers: `jitsi/` (a Jitsi Meet), `registry`, `playbook` (hosts), `terraform`, `lease_store` (the contract).
- `openstack/`: the same for a stack on the lab, which `tests/lab/openstack` brings up.

It has no tests, and imports none.
"""
