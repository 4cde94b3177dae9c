"""The command line: what it writes, and what it says when something is wrong."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.protocol.scaler import operator_token
from sipmediadeploy.protocol.secrets import agent_token
from sipmediadeploy.stack import Stack, load_stack, parse_stack
from tests.smd_process import run_smd

STACK = Stack(name="demo", domain="sip.test")
JITSI = "name: demo\ndomain: sip.test\nconference: {platform: jitsi, url: 'https://meet.test', %s}\n"


def smd(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run smd in ``directory`` with no engine in reach."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SMD_")}
    return run_smd(directory, words, {**clean, "DOCKER_HOST": "unix:///nowhere/docker.sock", **environment})


def assert_user_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


def test_init_writes_a_valid_stack_file_and_secrets_that_only_the_owner_reads(tmp_path: Path) -> None:
    result = smd(tmp_path, "init", "--name", "lab", "--domain", "sip.example.net")
    assert result.returncode == 0, result.stderr
    stack = load_stack(tmp_path / "stack.yaml")
    assert (stack.name, stack.domain) == ("lab", "sip.example.net")
    secrets = tmp_path / "secrets.yaml"
    assert secrets.stat().st_mode & 0o777 == 0o600
    master = yaml.safe_load(secrets.read_text())["master"]
    assert len(master) >= 43
    assert master not in result.stdout + result.stderr


def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text("mine")
    assert smd(tmp_path, "init").returncode == 0
    assert (tmp_path / "stack.yaml").read_text() == "mine"
    before = (tmp_path / "secrets.yaml").read_text()
    assert "left as it is" in smd(tmp_path, "init").stdout
    assert (tmp_path / "secrets.yaml").read_text() == before


def test_init_refuses_a_name_that_no_stack_can_have(tmp_path: Path) -> None:
    assert_user_error(smd(tmp_path, "init", "--name", "No Good"), "name")
    assert not (tmp_path / "stack.yaml").exists()


def test_config_prints_the_effective_stack_as_yaml_and_as_json(tmp_path: Path) -> None:
    smd(tmp_path, "init")
    plain = yaml.safe_load(smd(tmp_path, "config").stdout)
    assert plain == json.loads(smd(tmp_path, "config", "--json").stdout)
    assert plain["pools"]["gateway"]["max"] == 4


def test_config_tells_terraform_what_a_stack_on_openstack_stands_on(tmp_path: Path) -> None:
    text = "name: demo\ndomain: sip.test\nprovider: openstack\n"
    (tmp_path / "stack.yaml").write_text(text)
    plain = smd(tmp_path, "config").stdout
    assert parse_stack(plain) == parse_stack(text), "what is printed is a stack file"
    told = json.loads(smd(tmp_path, "config", "--json").stdout)
    assert told.pop("foundation")["networks"]["own"]["name"] == "smd-demo"
    assert told == yaml.safe_load(plain)


def test_config_wants_the_range_of_a_network_that_it_can_not_ask_for(tmp_path: Path) -> None:
    text = "name: demo\ndomain: sip.test\nprovider: openstack\nopenstack: {network: inner}\n"
    (tmp_path / "stack.yaml").write_text(text)
    assert smd(tmp_path, "config").returncode == 0
    assert_user_error(smd(tmp_path, "config", "--json"), "network.subnet", "inner", "a /24")


def test_the_stack_file_is_found_by_option_and_environment(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "my.yaml"
    assert smd(tmp_path, "init", "--stack", str(path)).returncode == 0
    assert (path.parent / "secrets.yaml").exists()
    assert smd(tmp_path, "config", SMD_STACK=str(path)).returncode == 0


@pytest.mark.parametrize(
    "words",
    [("config",), ("doctor",), ("status",), ("down",), ("logs", "x"), ("call", "demo")],
    ids=lambda words: words[0],
)
def test_without_a_stack_file_every_command_says_how_to_write_one(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    result = smd(tmp_path, *words)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_mistake_in_the_stack_file_is_a_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text("name: demo\ndomian: x\n")
    assert_user_error(smd(tmp_path, "config"), "stack.yaml:2", "did you mean 'domain'?")


@pytest.mark.parametrize("words", [("up",), ("status",), ("down",), ("logs", "x"), ("call", "demo")])
def test_an_engine_out_of_reach_is_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    smd(tmp_path, "init")
    result = smd(tmp_path, *words)
    assert result.returncode == 2
    assert "Docker Engine does not answer at unix:///nowhere/docker.sock" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("master: " + "x" * 43, 0o644, ["others can read it", "chmod 600"]),
        ("master: short", 0o600, ["fewer than 32"]),
        ("other: " + "x" * 43, 0o600, ["expected one key, 'master'"]),
        ("master: [" + "x" * 43, 0o600, ["not valid YAML"]),
        ("", 0o600, ["expected one key"]),
    ],
)
def test_secrets_that_can_not_be_used_are_named_and_never_quoted(
    tmp_path: Path, text: str, mode: int, words: list[str]
) -> None:
    place = Place(tmp_path / "stack.yaml")
    place.secrets_file.write_text(text)
    place.secrets_file.chmod(mode)
    with pytest.raises(CommandError) as caught:
        place.secrets(STACK)
    for word in words:
        assert word in str(caught.value)
    assert "xxxx" not in str(caught.value)


def test_the_master_secret_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMD_MASTER_SECRET", "y" * 43)
    assert Place(tmp_path / "stack.yaml").secrets(STACK).master == "y" * 43


@pytest.mark.parametrize(
    ("keys", "file", "text", "mode", "words"),
    [
        ("token_file: t.jwt", "t.jwt", None, 0o600, ["conference.token_file", "t.jwt", "can't be read"]),
        ("token_file: t.jwt", "t.jwt", "a.bbbb.c", 0o640, ["others can read", "chmod 600"]),
        ("token_file: t.jwt", "t.jwt", "bbbb", 0o600, ["no JSON Web Token"]),
        ("jwt: {issuer: g, key_file: k}", "k", "", 0o600, ["conference.jwt.key_file", "k: it is empty"]),
        ("jwt: {issuer: g, key_file: k}", "k", "-----BEGIN bbbb", 0o600, ["no private key in PEM form"]),
    ],
)
def test_a_token_or_key_that_can_not_be_used_is_named_and_never_quoted(
    tmp_path: Path, keys: str, file: str, text: str | None, mode: int, words: list[str]
) -> None:
    place = Place(tmp_path / "stack.yaml")
    place.init()
    if text is not None:
        (tmp_path / file).write_text(text)
        (tmp_path / file).chmod(mode)
    with pytest.raises(CommandError) as caught:
        place.secrets(parse_stack(JITSI % keys))
    for word in words:
        assert word in str(caught.value)
    assert "bbbb" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("token_file: f", (" a.b.c\n", None)), ("jwt: {issuer: g, key_file: f}", (None, " a.b.c\n"))],
)
def test_what_the_conference_needs_is_read_beside_the_stack_file_and_in_no_output(
    tmp_path: Path, keys: str, expected: tuple[str | None, str | None]
) -> None:
    place = Place(tmp_path / "stack.yaml")
    place.init()
    place.stack_file.write_text(JITSI % keys)
    (tmp_path / "f").write_text(" a.b.c\n")
    (tmp_path / "f").chmod(0o600)
    secrets = place.secrets(load_stack(place.stack_file))
    assert (secrets.conference_token, secrets.conference_key) == tuple(x and x.strip() for x in expected)
    assert "a.b.c" not in repr(secrets)
    printed = smd(tmp_path, "config")
    assert printed.returncode == 0
    assert "a.b.c" not in printed.stdout


def test_two_commands_do_not_change_a_stack_at_the_same_time(tmp_path: Path) -> None:
    smd(tmp_path, "init")
    (tmp_path / ".smd").mkdir()
    with (tmp_path / ".smd" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert_user_error(smd(tmp_path, "down"), "another smd")


def test_help_needs_no_heavy_module() -> None:
    heavy = "pydantic docker aiohttp rich yaml structlog"
    code = (
        "import sys, sipmediadeploy.cli.main as m\n"
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_command_line_is_parsed_before_anything_heavy_is_imported() -> None:
    """``smd --help`` is to answer at once: what a command needs is imported by that command."""
    code = "import sipmediadeploy.cli.main, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "docker", "gi", "jinja2", "pydantic", "requests"}
    assert not heavy & set(done.stdout.split())


def test_ctrl_c_ends_with_one_line_and_exit_code_130(tmp_path: Path) -> None:
    code = (
        "import sipmediadeploy.cli.main as m, signal, time\n"
        # A shell's background job, as tests may be, starts with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def hang(): print('hangs', flush=True); time.sleep(60)\n"
        "m.app = hang\n"
        "m.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(2)
        started = time.monotonic()
        _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert errors == "smd: interrupted\n"


FLEET = """\
network: 192.0.2.0/24
service_addresses: {kamailio: 192.0.2.2}
hosts: {sip: {role: kamailio, address: 192.0.2.16}}
"""


def test_a_hosts_document_is_printed_for_a_file_and_for_standard_input(tmp_path: Path) -> None:
    assert smd(tmp_path, "init").returncode == 0
    (tmp_path / "hosts.yaml").write_text(FLEET)
    result = smd(tmp_path, "document", "sip", "--hosts", "hosts.yaml")
    assert result.returncode == 0, result.stderr
    document = yaml.safe_load(result.stdout)
    assert (document["name"], document["address"]) == ("sip", "192.0.2.16")
    master = yaml.safe_load((tmp_path / "secrets.yaml").read_text())["master"]
    assert master not in result.stdout


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (FLEET.replace("sip:", "sop:"), ["hosts.yaml", "no host 'sip'", "sop"]),
        (FLEET.replace("network: 192", "network: 193"), ["hosts.yaml", "not in the fleet's network"]),
        ("hosts: [", ["hosts.yaml", "not valid YAML"]),
        ("", ["hosts.yaml", "the fleet"]),
    ],
)
def test_hosts_that_can_not_be_are_a_clear_error(tmp_path: Path, hosts: str, words: list[str]) -> None:
    assert smd(tmp_path, "init").returncode == 0
    (tmp_path / "hosts.yaml").write_text(hosts)
    assert_user_error(smd(tmp_path, "document", "sip", "--hosts", "hosts.yaml"), *words)


def test_a_status_where_there_is_no_replica_is_a_clear_error(tmp_path: Path) -> None:
    if not Path("/etc/smd/replica.yaml").exists():
        assert_user_error(smd(tmp_path, "node", "--status"), "/etc/smd/replica.yaml", "can't be read")


def test_prometheus_gets_its_token_from_the_secrets_file_and_never_the_master_secret(tmp_path: Path) -> None:
    smd(tmp_path, "init")
    master = yaml.safe_load((tmp_path / "secrets.yaml").read_text())["master"]
    assert smd(tmp_path, "token").stdout == f"{operator_token(master)}\n"
    for name in ("demo-gateway-0", "gateway-0"):
        assert smd(tmp_path, "token", name).stdout == f"{agent_token(master, 'demo-gateway-0')}\n"
    (tmp_path / "secrets.yaml").unlink()
    assert_user_error(smd(tmp_path, "token"), "secrets.yaml", "smd init")
