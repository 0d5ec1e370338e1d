"""docs/start/account.md, followed to the letter: from a clone to a URL and back, with the real `sam` against moto."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app.template import Template
from devkit.deploys import prices

from .conftest import bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.deploys.target import Target

    from .conftest import Devkit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "start" / "account.md").read_text()
FIRST, *_ = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
VERBS = re.findall(r"^make (\w+)$", FIRST, re.MULTILINE)


@pytest.mark.slow  # seven programs of a second and more
def test_the_page_leads_to_a_url_and_back(
    project: Path, target: Target, cloudformation: Any, devkit: Devkit, served: Callable[[bytes], str]
) -> None:
    """In the four commands of its first block. Nobody is asked anything, nor types what the database's stack knows."""
    for path in (target.file, "layer/certs/global-bundle.pem"):
        (project / path).unlink()  # as in a clone
    said = {}
    for verb in VERBS:
        options = ["--url", served(bundle(5).encode())] if verb == "certs" else []  # RDS's own is not at hand
        status, said[verb] = devkit(verb, *options)
        assert status == 0, said[verb]
    assert said["account"].splitlines()[-1] == "Nothing is in the way. Next: make certs, make database, make deploy"
    assert "This takes about 15 minutes" in said["database"]
    assert said["deploy"].splitlines()[-1].split()[:2] == ["ApiUrl", "https://vpc-1.example.com"]
    base, top = (parameters(cloudformation, name) for name in (target.database_stack, target.stack))
    assert base["MinCapacity"] == "0.5"  # as the example says
    assert (top["VpcId"], top["SslRootCert"]) == ("vpc-1", "/opt/certs/global-bundle.pem")
    assert top["AppSecretId"].startswith("arn:aws:secretsmanager:")

    assert devkit("deploy")[0] == 0  # nothing has changed

    status, refusal = devkit("destroy", "--database", "--yes")
    assert status == 2
    assert "DeletionProtection = false under [database] in deploy/dev.toml, then make database" in refusal
    (project / target.file).write_text("[database]\nDeletionProtection = false\n")
    assert devkit("database")[0] == 0
    both = {target.stack, target.database_stack}
    status, left = devkit("destroy", "--yes")
    assert (status, names(cloudformation) & both) == (0, {target.database_stack})
    assert f"The database stays, and costs: {target.database_stack}. make destroy DATABASE=yes" in left
    status, left = devkit("destroy", "--database", "--yes")
    assert (status, names(cloudformation) & both) == (0, set())
    assert "a snapshot of the cluster" in left


def test_there_are_four_commands_and_each_is_a_verb_of_the_makefile() -> None:
    """That knows its environment; so has the way back."""
    assert VERBS == ["account", "certs", "database", "deploy"]
    for verb in [*VERBS, "destroy"]:
        command = ["make", "--no-print-directory", "--dry-run", verb, "ENV=prod", "DATABASE=yes", "YES=yes"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        also = " --database --yes" if verb == "destroy" else ""
        assert done.stdout.splitlines()[-1].split(" -m ")[1].strip() == f'devkit {verb} --env "prod"{also}'


def test_the_page_names_the_prices_that_the_commands_name() -> None:
    """With the example's values: at rest, and with all that it may take."""
    declared = Template(ROOT / "database.yaml").parameters
    least = prices.ENDPOINT + prices.SECRET * prices.SECRETS
    assert (
        f"about ${least:.0f} while nobody uses it, up to ${prices.ACU * declared['MaxCapacity']['Default']} more"
        in PAGE
    )
    assert f"about ${prices.METRICS} while nobody calls it" in PAGE
    assert f"at about ${prices.ACU / 2:.0f} a month" in PAGE
    assert f"from about ${least:.0f} a month" in (ROOT / "README.md").read_text()
    lines = dict(prices.database({"MinCapacity": "0.5", "MaxCapacity": "2", "Proxy": "yes"}))
    assert lines["Aurora, 0.5 ACU at least"] == "44"
    assert "RDS Proxy" in lines


def parameters(cloudformation: Any, name: str) -> dict[str, str]:
    """The values of its parameters."""
    (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {one["ParameterKey"]: one["ParameterValue"] for one in found["Parameters"]}


def names(cloudformation: Any) -> set[str]:
    return {one["StackName"] for one in cloudformation.describe_stacks()["Stacks"]}
