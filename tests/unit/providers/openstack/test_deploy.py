"""``smd deploy`` on a fake cloud, with a ``packer`` and a ``terraform`` that keep what they are told."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, cast

import pytest

from sipmediadeploy.cli import deploy_images, deploy_wait
from sipmediadeploy.cli.deploy import Order, deploy
from sipmediadeploy.cli.deploy_foundation import Terraform, ensure_foundation, find_terraform
from sipmediadeploy.cli.deploy_images import BuildOptions, Packer, ensure_role_images
from sipmediadeploy.cli.deploy_plan import Way
from sipmediadeploy.cli.deploy_wait import Waiting
from sipmediadeploy.cli.errors import CommandError
from sipmediadeploy.cli.place import Place
from sipmediadeploy.images.inputs import images_version, project_root
from sipmediadeploy.protocol.sip_options import ProbeError
from sipmediadeploy.providers.base import FloatingIp, Provider, ProviderError
from sipmediadeploy.providers.openstack.building import building_name
from sipmediadeploy.providers.openstack.cloud import Cloud, cloud_environment
from sipmediadeploy.stack import Role, load_stack
from tests.unit.providers.openstack.conftest import SMALLEST, Trial
from tests.unit.providers.openstack.fake_cloud import PASSWORD
from tests.unit.scaler.fake_scaler import leading
from tests.unit.scaler.serving import HERE, MASTER, serving

PROGRAM = """#!{python}
import json, os, pathlib, sys
name, here, words = pathlib.Path(sys.argv[0]).name, pathlib.Path({here!r}), sys.argv[1:]
told = dict(words=words, cloud=os.environ.get("OS_CLOUD"), stack=os.environ.get("TF_VAR_stack_file"))
with (here / (name + ".told")).open("a") as file:
    file.write(json.dumps(told) + "\\n")
answer = here / (name + "." + words[0])
print(answer.read_text() if answer.exists() else "as " + name + " says", flush=True)
for word in words:
    if word.startswith("-out="):
        pathlib.Path(word.removeprefix("-out=")).touch()
initialized = here / (name + ".initialized" + str(pathlib.Path.cwd()).replace("/", "-"))
if words[0] == "init":
    initialized.touch()
code = here / (name + "." + words[0] + ".code")
if words[0] == "validate":
    sys.exit(not initialized.exists())
sys.exit(int(code.read_text()) if code.exists() else 0)
"""
BOOTSTRAP = {"type": "terraform_data", "name": "bootstrap", "address": "b"}
NETWORK = {"type": "openstack_networking_network_v2", "name": "stack", "address": "module.stack.own"}


@dataclass(frozen=True, slots=True)
class Programs:
    """``packer`` and ``terraform`` on the PATH."""

    path: Path

    def told(self, name: str) -> list[dict[str, Any]]:
        """What one of them was told, each time that it was run."""
        file = self.path / f"{name}.told"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def commands(self, name: str) -> list[str]:
        """Only the first words."""
        return [one["words"][0] for one in self.told(name)]

    def answer(self, command: str, text: str, code: int = 0) -> None:
        """``command``, such as ``terraform.plan``, prints ``text`` and ends with ``code``."""
        (self.path / command).write_text(text)
        (self.path / f"{command}.code").write_text(str(code))

    def plan(self, *changes: tuple[dict[str, Any], list[str]]) -> None:
        """What Terraform would do."""
        found = [one | {"change": {"actions": do, "before": {}, "after": {}}} for one, do in changes]
        self.answer("terraform.show", json.dumps({"resource_changes": found}))
        self.answer("terraform.plan", "the plan", 2 if changes else 0)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("packer", "terraform"):
        (path / name).write_text(PROGRAM.format(python=sys.executable, here=str(path)))
        (path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    found = Programs(path)
    found.answer("packer.version", "Packer v1.6.6")
    found.answer("terraform.state", "")
    found.plan()
    return found


@dataclass(frozen=True, slots=True)
class Builds:
    """Images of roles, built for the stack ``demo``."""

    trial: Trial
    packer: Packer
    said: list[str]

    def run(self, settings: str = "", options: BuildOptions | None = None) -> None:
        """Build what is missing of version v2; what is built is in Glance then."""

        def report(line: str) -> None:
            self.said.append(line)
            if ": built in" in line:
                role = line.partition("image of ")[2].partition(":")[0]
                self.trial.cloud.add("images", name=f"smd-{role}", status="active", smd_version="v2")

        cloud = Cloud(self.trial.cloud.credentials)
        stack = self.trial.stack(settings)
        ensure_role_images(cloud, stack, "v2", options or BuildOptions(), self.packer, report)
        cloud.close()


@pytest.fixture
def builds(trial: Trial, programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    async def ansible(*_: object) -> Path:
        return Path("/ansible-playbook")

    monkeypatch.setattr(deploy_images, "_ensure_ansible", ansible)
    monkeypatch.setattr(deploy_images, "write_application", lambda *_: False)
    trial.cloud.add("images", name="debian-12", status="active")
    return Builds(trial, Packer("packer", project_root(), tmp_path / "logs", {"OS_CLOUD": "fake"}), [])


def variables(told: dict[str, Any]) -> dict[str, str]:
    """What ``packer build`` was given."""
    return dict(word.split("=", 1) for word in told["words"] if "=" in word and not word.startswith("-"))


def test_missing_images_are_built_and_what_was_made_for_the_builds_is_removed(
    builds: Builds, programs: Programs
) -> None:
    cloud = builds.trial.cloud
    cloud.add("images", name="smd-gateway", status="active", smd_version="v2")
    before = {kind: len(things) for kind, things in cloud.things.items() if kind != "images"}
    builds.run("images: {coturn: mine}")
    told = [one for one in programs.told("packer") if one["words"][0] == "build"]
    assert sorted(variables(one)["role"] for one in told) == ["conference-demo", "kamailio", "scaler"]
    given = variables(told[0])
    (network,) = [body["network"] for body in cloud.made("POST /network/v2.0/networks")]
    assert network["name"] == building_name("demo")
    assert json.loads(given["security_groups"]) == [building_name("demo")]
    assert (given["version"], given["flavor"], given["source_image"]) == ("v2", "medium", "debian-12")
    assert given["ansible_playbook"] == "/ansible-playbook"
    assert given["floating_ip_network"]
    assert given["apt_proxy"] == ""
    assert told[0]["cloud"] == "fake"
    assert PASSWORD not in str(told)
    assert {kind: len(things) for kind, things in cloud.things.items() if kind != "images"} == before
    builds.run("images: {coturn: mine}")
    assert len(programs.told("packer")) == 1 + 3, "there is nothing left to build"


def test_a_failed_build_shows_its_last_lines_and_leaves_only_finished_images(
    builds: Builds, programs: Programs
) -> None:
    programs.answer("packer.build", "==> SSH timed out", 1)
    with pytest.raises(
        CommandError, match=r"(?s)packer build ended with exit code 1.*packer-.*SSH timed out"
    ):
        builds.run()
    assert programs.commands("packer").count("build") <= deploy_images.AT_A_TIME, "no other was begun"
    assert building_name("demo") not in str(builds.trial.cloud.things)


def test_without_packer_the_user_is_told_what_to_install_or_upload(builds: Builds) -> None:
    packer = replace(builds.packer, program="no-packer-here")
    with pytest.raises(CommandError, match=r"(?s)smd-coturn.*apt-get install packer.*smd_version=v2"):
        replace(builds, packer=packer).run()


def test_a_current_packer_installs_its_plugins_first(builds: Builds, programs: Programs) -> None:
    programs.answer("packer.version", "Packer v1.11.2")
    builds.run()
    assert programs.commands("packer")[:3] == ["version", "init", "build"]


@pytest.mark.parametrize(("network", "floating"), [("inner", True), ("public", False)])
def test_builds_run_in_a_network_that_the_user_names(
    network: str, floating: bool, builds: Builds, programs: Programs
) -> None:
    inner = builds.trial.cloud.add("networks", name="inner")
    builds.run(options=BuildOptions(network=network, flavor="large", apt_proxy="http://10.0.0.9:3142"))
    given = variables(programs.told("packer")[-1])
    assert (given["network"] == inner["id"], bool(given["floating_ip_network"])) == (floating, floating)
    assert (given["flavor"], given["apt_proxy"]) == ("large", "http://10.0.0.9:3142")
    assert builds.trial.cloud.made("POST /network/v2.0/networks") == []


@pytest.mark.parametrize("proxy", ["10.0.0.9:3142", "https://10.0.0.9", "http://user:word@host", "http://"])
def test_a_proxy_that_apt_would_not_understand_is_refused(proxy: str) -> None:
    with pytest.raises(CommandError, match="--packer-apt-proxy: expected http://ADDRESS:PORT"):
        BuildOptions(apt_proxy=proxy)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("flavors", "--packer-flavor"), ("images", "--packer-image"), ("networks", "--packer-net")],
)
def test_what_builds_need_and_the_cloud_has_not_is_named_with_its_option(
    kind: str, words: str, builds: Builds
) -> None:
    builds.trial.cloud.things[kind].clear()
    with pytest.raises(ProviderError, match=words):
        builds.run()


def test_what_builds_that_were_killed_have_left_is_removed(builds: Builds) -> None:
    cloud = builds.trial.cloud
    for role in Role:
        cloud.add("images", name=f"smd-{role}", status="active", smd_version="v2")
    cloud.add("networks", name=building_name("demo"))
    builds.run()
    assert building_name("demo") not in str(cloud.things)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the stack ``demo`` stands on, made by ``smd deploy``."""

    trial: Trial
    place: Place
    directory: Path

    def terraform(self) -> Terraform:
        """In a user's own copy of the example."""
        logs = self.place.state / "deploy"
        return find_terraform(self.place, project_root(), self.directory, logs, {"OS_CLOUD": "fake"})

    def make(self, asked: Way | None = None, *, yes: bool = True) -> Way:
        """Make it."""
        stack, cloud = load_stack(self.place.stack_file), Cloud(self.trial.cloud.credentials)
        way = ensure_foundation(self.place, stack, cloud, self.terraform(), asked, yes, print)
        cloud.close()
        return way

    def clear(self) -> None:
        """Nothing is there yet."""
        for kind in ("networks", "subnets", "security_groups"):
            self.trial.cloud.things[kind].clear()
        self.trial.cloud.external("public")

    @property
    def servers(self) -> list[str]:
        """Replicas that were made."""
        return [server["name"] for server in self.trial.cloud.things["servers"]]


@pytest.fixture
def standing(trial: Trial, place: Place, programs: Programs, tmp_path: Path) -> Standing:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "main.tf").touch()
    return Standing(trial, place, directory)


def test_terraform_applies_its_plan_and_the_first_scaler_is_not_made_a_second_time(
    standing: Standing, programs: Programs
) -> None:
    standing.clear()
    programs.plan((NETWORK, ["create"]), (BOOTSTRAP, ["create"]))
    assert standing.make() is Way.TERRAFORM
    commands = programs.commands("terraform")
    assert commands == ["validate", "init", "state", "plan", "show", "apply"]
    assert standing.servers == []
    effective = json.loads((standing.directory / "effective-stack.json").read_text())
    assert (effective["name"], "lease" in effective["foundation"]["networks"]) == ("demo", True)
    told = programs.told("terraform")[-1]
    assert (told["cloud"], told["stack"]) == ("fake", str(standing.place.stack_file))


def test_when_terraform_has_nothing_to_do_the_scaler_is_still_seen_to(
    standing: Standing, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.answer("terraform.state", "module.stack.x")
    standing.make(yes=False)
    assert "apply" not in programs.commands("terraform")
    assert standing.servers == ["demo-scaler-0"]
    assert "nothing is to be changed" in capsys.readouterr().out
    standing.make(yes=False)
    assert programs.commands("terraform").count("init") == 1
    assert standing.servers == ["demo-scaler-0"]


def test_nothing_is_applied_without_a_yes(
    standing: Standing,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs.answer("terraform.state", "module.stack.x")
    programs.plan((NETWORK, ["update"]))
    with pytest.raises(CommandError, match="no terminal to ask at"):
        standing.make(yes=False)
    assert "the plan" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "no")
    with pytest.raises(CommandError, match="nothing was applied"):
        standing.make(yes=False)
    assert "apply" not in programs.commands("terraform")
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    standing.make(yes=False)
    assert programs.commands("terraform")[-1] == "apply"
    assert standing.servers == ["demo-scaler-0"], "this plan had no bootstrap"


def test_yes_is_not_said_to_a_plan_that_removes_a_network(standing: Standing, programs: Programs) -> None:
    programs.answer("terraform.state", "module.stack.x")
    programs.plan((NETWORK, ["delete", "create"]))
    with pytest.raises(CommandError, match="--yes is not for plans that remove"):
        standing.make(yes=True)
    assert "apply" not in programs.commands("terraform")


def test_a_failed_apply_is_shown_and_may_be_repeated(standing: Standing, programs: Programs) -> None:
    programs.answer("terraform.state", "module.stack.x")
    programs.plan((BOOTSTRAP, ["create"]))
    programs.answer("terraform.apply", "Error: quota exceeded", 1)
    with pytest.raises(CommandError, match=r"(?s)quota exceeded.*smd deploy again: it goes on"):
        standing.make()


def test_a_directory_that_has_another_stack_is_left_alone(standing: Standing, programs: Programs) -> None:
    programs.answer("terraform.state", "module.stack.x")
    effective = standing.directory / "effective-stack.json"
    effective.write_text('{"name": "other"}')
    with pytest.raises(CommandError, match=r"another stack, other\. .*--terraform-dir"):
        standing.make()
    assert effective.read_text() == '{"name": "other"}'
    assert "plan" not in programs.commands("terraform")


def test_a_directory_without_configuration_is_refused(standing: Standing) -> None:
    (standing.directory / "main.tf").unlink()
    with pytest.raises(CommandError, match="there is no Terraform configuration"):
        standing.make()


@pytest.mark.parametrize("asked", [None, Way.SMD])
def test_without_terraform_smd_makes_what_the_stack_stands_on(
    asked: Way | None, standing: Standing, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    standing.clear()
    assert standing.make(asked) is Way.SMD
    assert programs.told("terraform") == []
    assert standing.servers == ["demo-scaler-0"]


async def test_the_scalers_are_asked_where_the_user_says_and_time_has_an_end(
    trial: Trial, tmp_path: Path
) -> None:
    async with serving(leading(), tmp_path) as where:
        stack = trial.stack()
        waiting = Waiting(stack, MASTER, "v1", trial.provider(), f"{HERE}:{where.port}")
        said: list[str] = []
        with pytest.raises(CommandError, match=r"(?s)kamailio: 0 of 2 replicas are ready.*smd events"):
            await waiting.until_whole(0.0, said.append)
        assert said == [
            "kamailio 0 of 2 ready, coturn 0 of 2, gateway 0 of 1, scaler 0 of 2, conference-demo 0 of 1"
        ]


class OnceSeen:
    """A provider that tells once where the scalers' API is, and then nothing any more."""

    def __init__(self) -> None:
        self.asked = 0

    async def floating_ips(self) -> list[FloatingIp]:
        self.asked += 1
        if self.asked > 1:
            raise ProviderError("no answer from the cloud")
        return [FloatingIp(Role.SCALER, IPv4Address(HERE), "x")]


async def test_scalers_that_were_found_are_asked_also_while_the_cloud_is_silent(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_wait, "STEP_S", 0.01)
    async with serving(leading(), tmp_path) as where:
        monkeypatch.setattr(deploy_wait, "API_PORT", where.port)
        provider, said = OnceSeen(), list[str]()
        stack = trial.stack("api_from: [127.0.0.0/8]")
        waiting = Waiting(stack, MASTER, "v1", cast(Provider, provider), None)
        with pytest.raises(CommandError, match="kamailio: 0 of 2 replicas are ready"):
            await waiting.until_whole(0.1, said.append)
    assert (provider.asked, len(said)) == (1, 1)


SMALL = "pools: {kamailio: {replicas: 1}, coturn: {replicas: 1}, scaler: {replicas: 1}}\n"
SMALL += "conference: {url: 'wss://c.test/janus'}\n"


def test_a_stack_is_deployed_and_a_second_time_left_as_it_is(
    standing: Standing,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the doctor's look to the last words, without Terraform and with images that are there."""
    answers = [ProbeError("no answer")]

    async def options(*_: object) -> None:
        if answers:
            raise answers.pop()

    async def nothing(*_: object) -> list[Any]:
        return []

    monkeypatch.setattr(deploy_wait, "sip_options", options)
    monkeypatch.setattr(deploy_wait, "STEP_S", 0.01)
    monkeypatch.setattr("sipmediadeploy.cli.deploy.look", nothing)
    standing.place.stack_file.write_text(SMALLEST + SMALL)
    standing.clear()
    cloud, version = standing.trial.cloud, images_version(project_root())
    for role in (Role.KAMAILIO, Role.COTURN, Role.GATEWAY):
        cloud.add("images", name=f"smd-{role}", status="active", smd_version=version)
        marked = {"smd.stack": "demo", "smd.role": str(role), "smd.slot": "0", "smd.name": f"demo-{role}-0"}
        marked |= {"smd.address": "10.88.0.9", "smd.config-hash": "h", "smd.version": version}
        marked |= {"smd.created": "1"}
        cloud.add("servers", name=f"demo-{role}-0", status="ACTIVE", metadata=marked, tags=["smd.stack=demo"])
    order = Order(
        yes=False,
        foundation=Way.SMD,
        terraform_dir=standing.directory,
        builds=BuildOptions(),
        timeout_s=30.0,
        api=None,
    )
    deploy(standing.place, order)
    said = capsys.readouterr().out
    for words in (
        "nothing is in the way",
        f"images of roles are there, version {version}",
        "demo-scaler-0: starting it",
        "kamailio 1 of 1 servers run, coturn 1 of 1, gateway 1 of 1, scaler 1 of 1; SIP is not answered yet",
        "scaler 1 of 1; SIP is answered",
        "call    sip:ROOM@203.0.113.",
        "remove  ./smd down --foundation",
    ):
        assert words in said
    before = json.dumps(cloud.things, sort_keys=True)
    deploy(standing.place, order)
    assert json.dumps(cloud.things, sort_keys=True) == before
    assert programs.told("packer") + programs.told("terraform") == []


def test_other_programs_are_told_the_only_cloud_of_the_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OS_CLOUD")
    assert cloud_environment(None) == {"OS_CLOUD": "fake"}
    assert cloud_environment("fake") == {"OS_CLOUD": "fake"}
