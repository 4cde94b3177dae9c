"""What tests and benchmarks share; one file per idea.

- `running`: a stack on Docker as its operator runs it; `waiting`: conditions with a deadline.
- Callers: `terminal` (`smd call`), `baresip`, `sipp`, `browser_participant`; `outside`: another host.
- Faults: `faults` (what can break), `calls` and `probe` (who notices), `fault_run` (what it cost).
- Peers: `jitsi/` (a Jitsi Meet), `registry`, `playbook` (hosts), `terraform`, `lease_store` (the contract).
- `openstack/`: the same for a stack on the lab, which `tests/lab/openstack` brings up.

It has no tests, and imports none.
"""
