"""The connections that a template's functions may hold, added up against what its database takes.

The templates in ``plans`` are small ones of the kinds that are published most; each sum here was made by hand.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from devkit.cli import main
from devkit.plan import changes, limits
from devkit.plan.planned import Asked, Planned, planned
from devkit.plan.plot import plot
from devkit.plan.stack import UnsaidError
from devkit.plan.sums import Line, Plan, Server, Side, Use

ROOT = Path(__file__).parents[2]
PLANS = Path(__file__).parent / "plans"
FOREIGN = sorted((ROOT / "tests/packaging/foreign").glob("*/template.y*ml"))
SVG = "{http://www.w3.org/2000/svg}"


def plan_of(kind: str, **said: object) -> Planned:
    return planned(Asked(template=PLANS / f"{kind}.yaml", **said))  # type: ignore[arg-type]


def sides(found: Planned) -> tuple[Side, ...]:
    assert found.plan is not None
    return found.plan.sides


def lines(side: Side) -> dict[str, tuple[int, int]]:
    """By name, what is held at work and in the middle of a deploy."""
    return {line.name: (line.at_work, line.most) for line in side.lines}


def smallest(found: Planned) -> str:
    assert found.plan is not None
    return changes.that_fit(found.plan)[0].text


def test_a_published_outage_is_refused() -> None:
    """110 environments held 110 connections of a db.t4g.micro, which takes 112 and keeps 3 for superusers.

    https://github.com/kirill-markin/flashcards-open-source-app/pull/1635. To fit with a deploy and 3 for people:
    2 x 53 + 3 = 109.
    """
    found = plan_of("rest")
    (server,) = sides(found)
    assert (server.at_work, server.server.usable, server.fits) == (110, 112 - 3, False)
    assert server.at_work > server.server.usable  # without a deploy, and without those for people
    assert smallest(found) == "let BackendFunction reserve 53 environments, and not 110"


def test_what_mended_it_leaves_no_room_for_a_deploy() -> None:
    """33 environments with pools of 3 are 99 of 109, and twice that while the version before holds its own."""
    (server,) = sides(plan_of("rest", parameters={"Backend": "33"}, connections={"BackendFunction": 3}))
    assert (server.at_work, server.most, server.server.usable, server.fits) == (99, 198, 109, False)


def test_a_proxy_opens_its_share_however_many_ask() -> None:
    """2 GiB x 0.8 / 12,582,880 = 136 connections of MySQL, and 90 % of them are 122.

    The account's 1,000 less 2 and 8 that are reserved ask the proxy for 990, which opens 122. The export goes to the
    server itself: 2 and 2. 122 + 4 + 3 for people = 129 of 136.
    """
    found = plan_of("proxied")
    (server,) = sides(found)
    assert lines(server) == {"ExportFunction": (2, 4), "RDS Proxy": (122, 122)}
    assert (server.server.usable, server.most, server.least, server.fits) == (136, 126, 129, True)
    assert [one.name for one in found.out] == ["ResizeFunction"]


def test_a_proxy_that_may_have_all_leaves_none_for_others() -> None:
    """100 % of 136, and 4 and 3 beside it. At 95 % it opens 129, and 129 + 4 + 3 = 136."""
    template = PLANS / "proxied.yaml"
    found = planned(Asked(template=template, parameters={}, account=1000))
    assert found.plan is not None
    greedy = replace(found.plan, percent=100)
    assert [side.fits for side in greedy.sides] == [False]
    texts = [change.text for change in changes.that_fit(greedy)]
    assert "set MaxConnectionsPercent of the RDS Proxy to 95" in texts


def test_a_function_that_calls_the_data_api_holds_no_connection() -> None:
    """0.5 to 6 ACU have the 823 of 4 ACU, less 3 and, before version 16, 2 of RDS: 818.

    The work is 10 and 10, by its queue's bound. The night reserves nothing: 1,000 and 1,000. To fit, its part of
    818 - 20 - 3 = 795 is 397 twice.
    """
    found = plan_of("serverless", parameters={"AtOnce": "10"})
    (cluster,) = sides(found)
    assert lines(cluster) == {"WorkFunction": (10, 20), "NightFunction": (1000, 2000)}
    assert (cluster.server.most, cluster.server.usable) == (823, 818)
    assert {one.name: one.why for one in found.out} == {"AskFunction": "calls the Data API, which needs no connection"}
    assert smallest(found) == "let NightFunction reserve 397 environments, and not the account's 1000"


def test_pools_overflow_async_and_a_reader_are_counted() -> None:
    """The queue sends 20 at once, though 50 are reserved: 20 x (2 + 1) = 60, and 20 x 2 = 40 that were kept before.

    The sender has 1 + 6 in each of 10: 70 and 70. 100 + 140 = 240 of 1,600 - 3, and as many of a reader, which is a
    server of its own. The smaller of the two instances counts, for either may come to be the writer.
    """
    found = plan_of("pipeline")
    writer, reader = sides(found)
    assert lines(writer) == lines(reader) == {"StoreFunction": (60, 100), "SendFunction": (70, 140)}
    assert (writer.server.most, writer.server.usable, writer.most, writer.fits) == (1600, 1597, 240, True)
    assert [one.name for one in found.out] == ["TakeFunction"]


def test_services_beside_the_functions_are_asked_for_and_counted() -> None:
    """4 workers x 3 replicas x 5 = 60, twice during a deploy; 40 environments, 25 of them provisioned, twice.

    120 + 80 + 3 = 203 of 200 - 3 - 2 = 195. To fit, 2 x 36 + 123 = 195.
    """
    with pytest.raises(UnsaidError, match=r"^Web is a service that uses the database: --beside Web="):
        plan_of("plain")
    found = plan_of("plain", beside={"Web": (4, 3, 5)})
    (server,) = sides(found)
    assert lines(server) == {"Api": (40, 80), "Web": (60, 120)}
    assert (server.server.usable, server.most, server.least, server.fits) == (195, 200, 208, False)
    assert smallest(found) == "let Api reserve 36 environments, and not 40"
    assert [one.name for one in found.out] == ["Mail"]


def test_tenants_processes_and_a_pooler_are_counted() -> None:
    """21 x 2.5 = 52.5, so 53 environments stay for tenants, and 53 of the version before.

    4 GiB are 2 vCPU of 16 processes each, in 10 environments: 320, twice at PgBouncer's door, which opens 40.
    106 + 40 + 3 = 149 of 200 - 3.
    """
    found = plan_of("tenants", max_connections=200, pool=40, clients=700)
    server, door = sides(found)
    assert lines(server) == {"TenantFunction": (53, 106), "PgBouncer": (40, 40)}
    assert lines(door) == {"BusyFunction": (320, 640)}
    assert (server.least, server.fits, door.fits) == (152, True, True)
    (*_, narrow) = sides(plan_of("tenants", max_connections=200, pool=40, clients=600))
    assert not narrow.fits


def test_a_connection_that_is_not_kept_is_not_there_in_a_deploy() -> None:
    """With DB_POOL=null, 21 events at once have 21, whoever's tenant and whichever version it is."""
    server, door = sides(plan_of("tenants", parameters={"Pool": "null"}, max_connections=200, pool=40, clients=700))
    assert lines(server)["TenantFunction"] == (21, 21)
    assert lines(door) == {"BusyFunction": (320, 320)}


def test_functions_that_enter_dsql_need_no_word_of_its_limit(tmp_path: Path) -> None:
    """A cluster takes 10,000, whichever it is, and keeps none. Where one function goes elsewhere, the plan asks."""
    template = tmp_path / "template.json"
    by_token = {"Environment": {"Variables": {"DB_AUTH": "dsql"}}, "ReservedConcurrentExecutions": 50}
    by_secret = {"Environment": {"Variables": {"DB_SECRET_ID": "s"}}, "ReservedConcurrentExecutions": 50}

    def plan_with(**functions: object) -> Planned:
        resources = {
            name: {"Type": "AWS::Lambda::Function", "Properties": properties} for name, properties in functions.items()
        }
        template.write_text(json.dumps({"Resources": resources}))
        return planned(Asked(template=template))

    (server,) = sides(plan_with(A=by_token))
    assert (server.server.usable, server.most, server.fits) == (10_000, 100, True)
    with pytest.raises(UnsaidError, match=r"^nothing here says how many"):
        plan_with(A=by_token, B=by_secret)


@pytest.mark.parametrize(
    ("kind", "said", "asks"),
    [
        ("serverless", {}, "WorkFunctionJobs: MaximumConcurrency is the parameter AtOnce, .*: --parameter AtOnce="),
        ("tenants", {"pool": 1, "clients": 1}, "nothing here says how many .*: --max-connections"),
        ("tenants", {"max_connections": 9}, "BusyFunction goes to a PgBouncer: --pool"),
        ("rest", {"parameters": {"Backend": "many"}}, "ReservedConcurrentExecutions is 'many', which is no number"),
        ("rest", {"connections": {"Backend": 1}}, "there is no function Backend: they are BackendFunction"),
    ],
)
def test_what_is_not_known_is_asked_for_by_name(kind: str, said: dict[str, object], asks: str) -> None:
    """And never guessed: no default of ours takes the place of a value that somebody has yet to give."""
    with pytest.raises(UnsaidError, match=asks):
        plan_of(kind, **said)


@pytest.mark.parametrize("template", FOREIGN, ids=lambda path: path.parent.name)
def test_a_template_of_others_is_planned_or_asks(template: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever stands in it, the answer is one of three."""
    status = main(["plan", str(template), "--max-connections", "5000"])
    assert status in {0, 1, 2}
    assert "".join(capfd.readouterr())


def test_the_command_answers_with_its_status_and_a_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """1 where it does not fit, 2 where something has to be said first, and 0 with enough."""
    picture = tmp_path / "plan.svg"
    assert main(["plan", str(PLANS / "rest.yaml"), "--plot", str(picture)]) == 1
    assert "That is 114 too many." in capfd.readouterr().out
    assert "Server: 223 of 109" in {text.text for text in ET.parse(picture).iter(f"{SVG}text")}  # noqa: S314 - just made
    assert main(["plan", str(PLANS / "serverless.yaml")]) == 2
    assert "--parameter AtOnce=…" in capfd.readouterr().err
    assert main(["plan", str(PLANS / "rest.yaml"), "--max-connections", "229", "--people", "3"]) == 0
    assert "It fits: 3 are left over." in capfd.readouterr().out


def test_a_floor_that_lets_too_small_a_server_in_is_told(tmp_path: Path) -> None:
    """The plan fits on the default, and would not on the least that the parameter takes: 2 x 9 + 3 + 3 = 24."""
    declared = '"MaxConnections": {"Type": "Number", "Default": 30, "MinValue": 23}'
    function = '{"Type": "AWS::Lambda::Function", "Properties": {"ReservedConcurrentExecutions": 9}}'
    template = tmp_path / "template.json"
    template.write_text(f'{{"Parameters": {{{declared}}}, "Resources": {{"F": {function}}}}}')
    found = planned(Asked(template=template, connections={"F": 1}))
    assert found.wrong == ("MinValue of the parameter MaxConnections is 23, and 24 is the least that fits",)
    assert main(["plan", str(template), "--function", "F=1"]) == 1


def test_each_change_that_is_named_is_enough_and_no_smaller_one_is() -> None:
    """Of one function's environments; the server's smallest number is the least of the sum."""
    uses = (
        Use(name="A", environments=40, why="", kept=2, passing=1, ours=True),
        Use(name="B", environments=10, why="", kept=1, ours=True),
    )
    server = Server(what="it", most=120, source="", reserved=3, people=3, remedy=lambda least: f"raise it to {least}")
    plan = Plan(uses=uses, writer=server, unreserved=1000, beside=(Line("web", 5, 5),))
    assert plan.sides[0].most == 40 * 3 + 40 * 2 + 10 + 10 + 5 + 5
    found = changes.that_fit(plan)
    assert [change.text for change in found] == [
        "give A DB_POOL_SIZE=1 and DB_MAX_OVERFLOW=0",
        "let A reserve 16 environments, and not 40",
        "set DB_POOL=null for A, B, which keeps none between events",
        "raise it to 236",
    ]
    assert all(change.plan.fits for change in found)
    one_more = replace(plan, uses=(replace(uses[0], environments=17), uses[1]))
    assert not one_more.fits


def test_a_pooler_that_opens_too_many_is_told_to_open_fewer_first() -> None:
    """Its clients take turns as it is. Nobody is asked to do with three environments of fifty for its sake."""
    uses = (
        Use(name="A", environments=50, why="", kept=1, ours=True, route="pgbouncer"),
        Use(name="B", environments=5, why="", kept=1, ours=True, route="pgbouncer"),
    )
    server = Server(what="it", most=15, source="", reserved=3, people=3, remedy=lambda least: f"raise it to {least}")
    door = Server(what="PgBouncer's door", most=200, source="")
    plan = Plan(uses=uses, writer=server, unreserved=1000, pool=20, clients=door)
    assert [change.text for change in changes.that_fit(plan)] == [
        "let PgBouncer open 9 connections, and not 20",
        "let each function reserve fewer environments: A 3 and not 50, B 1 and not 5",
        "raise it to 26",
    ]


@pytest.mark.parametrize(
    ("engine", "instance_class", "aurora", "connections"),
    [
        ("postgresql", "db.t4g.micro", False, 112),
        ("postgresql", "db.t4g.medium", False, 360),  # 4 GiB x 0.8 / 9,531,392
        ("postgresql", "db.m6g.4xlarge", False, 5000),  # 5,767, and never more than 5,000
        ("postgresql", "db.t4g.medium", True, 405),
        ("postgresql", "db.x9.huge", False, None),
        ("mysql", "db.t3.small", True, 45),
        ("mariadb", "db.m5.large", False, 273),  # 8 GiB x 0.8 / 25,165,760
    ],
)
def test_a_class_takes_what_the_table_says(
    engine: str, instance_class: str, aurora: bool, connections: int | None
) -> None:
    """A published default; the formula over what a class leaves of its memory; nothing for a class that is unknown."""
    assert limits.by_class(engine, instance_class, aurora=aurora) == connections


def test_capacity_units_take_the_row_below() -> None:
    """Aurora says no number between two rows, and half a unit at least caps PostgreSQL's."""
    assert [limits.by_acu("postgresql", 1, most) for most in (0.5, 1, 3.5, 4, 64)] == [None, 189, 189, 823, 5000]
    assert [limits.by_acu(engine, 0.5, 32) for engine in ("postgresql", "mysql")] == [2000, 3000]


def test_the_page_has_the_table_of_limits_and_the_picture_of_a_plan() -> None:
    """Printed by `python -m devkit plan --limits`, and drawn by `--plot` of the published outage."""
    assert limits.as_markdown() in (ROOT / "docs/run/plan.md").read_text()
    drawn = plot(sides(plan_of("rest")), "Connections of rest.yaml, at most")
    assert (ROOT / "docs/run/plan.svg").read_text() == drawn


def planned_of(tmp_path: Path, resources: dict[str, object], **said: object) -> Planned:
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}))
    return planned(Asked(template=template, max_connections=5000, **said))  # type: ignore[arg-type]


def function(variables: dict[str, str], **properties: object) -> dict[str, object]:
    said = {"Runtime": "python3.13", "CodeUri": "code", "Handler": "app.handler", **properties}
    return {"Type": "AWS::Serverless::Function", "Properties": {**said, "Environment": {"Variables": variables}}}


@pytest.mark.parametrize(
    ("source", "connections"),
    [
        ("import db", 1),
        ("from db import aio", 1 + 4),
        ("import db.aio", 1 + 4),
        ("from feature import within", 1 + 4),  # which imports it inside a function
        ("from feature import nothing", 1),
    ],
)
def test_code_that_uses_aio_has_connections_of_its_own(tmp_path: Path, source: str, connections: int) -> None:
    """As db.aio has by default, to whichever module of the function's own the import has gone."""
    (tmp_path / "code/feature").mkdir(parents=True)
    (tmp_path / "code/app.py").write_text(source)
    (tmp_path / "code/feature/__init__.py").touch()
    (tmp_path / "code/feature/within.py").write_text("def later():\n    from db.aio import begin\n    return begin\n")
    (tmp_path / "code/feature/nothing.py").write_text("import db\n")
    found = planned_of(tmp_path, {"F": function({"DB_SECRET_ID": "x"}, ReservedConcurrentExecutions=1)})
    (server,) = sides(found)
    assert server.at_work == connections


def test_what_all_functions_are_told_is_no_evidence(tmp_path: Path) -> None:
    """A setting in Globals, or the kind of entry without the secret; names of other stores; SQLite."""
    found = planned_of(
        tmp_path,
        {
            "Told": function({"DB_POOL": "null", "DB_READER_HOST": "x", "DB_AUTH": "secret"}),
            "Others": function({"DYNAMODB_TABLE": "x", "MONGO_DB_URL": "x", "TABLE_NAME": "x"}),
            "Local": function({"DB_URL": "sqlite://"}),
            "Token": function({"DB_AUTH": "iam"}, ReservedConcurrentExecutions=2),
            "Foreign": function({"DATABASE_URL": "x"}, ReservedConcurrentExecutions=3),
        },
    )
    assert {one.name for one in found.out} == {"Told", "Others", "Local"}
    (server,) = sides(found)
    assert lines(server) == {"Token": (2, 4), "Foreign": (3, 6)}


def test_what_a_condition_gives_a_function_counts(tmp_path: Path) -> None:
    """Its whole environment, and a resource that is there or is not; no branch is taken for the other."""
    chosen = {"Fn::If": ["Here", {"Variables": {"DB_SECRET_ID": "x"}}, {"Ref": "AWS::NoValue"}]}
    properties = {"ReservedConcurrentExecutions": 2, "Environment": chosen}
    template = tmp_path / "template.json"
    content = {
        "Conditions": {
            "Here": {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]},
            "There": {"Fn::Not": [{"Condition": "Here"}]},
        },
        "Resources": {
            "F": {"Type": "AWS::Lambda::Function", "Properties": properties},
            "G": {"Type": "AWS::Lambda::Function", "Properties": properties, "Condition": "There"},
        },
    }
    template.write_text(json.dumps(content))
    found = planned(Asked(template=template, max_connections=100))
    assert lines(sides(found)[0]) == {"F": (2, 4)}
    elsewhere = planned(Asked(template=template, parameters={"AWS::Region": "eu-west-1"}))
    assert (elsewhere.plan, [one.name for one in elsewhere.out]) == (None, ["F", "G"])


def test_a_setting_that_db_would_refuse_is_told(tmp_path: Path) -> None:
    """In the words of db itself; the plan makes nothing of it."""
    with pytest.raises(UnsaidError, match=r"F: .*DB_POOL_SIZE"):
        planned_of(tmp_path, {"F": function({"DB_SECRET_ID": "x", "DB_POOL_SIZE": "0"})})
    with pytest.raises(UnsaidError, match=r"^F: DB_POOL_SIZE is {{resolve:ssm:/n}}, which CloudFormation looks up"):
        planned_of(tmp_path, {"F": function({"DB_SECRET_ID": "x", "DB_POOL_SIZE": "{{resolve:ssm:/n}}"})})
    assert planned_of(tmp_path, {"F": function({})}).plan is None


def test_a_further_database_is_a_plan_of_its_own(tmp_path: Path) -> None:
    """It is told of, and added up by its own settings: 4 x 3, and as many of the version before."""
    resources = {
        "Nested": {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": "https://x"}},
        "F": function(
            {"DB_SECRET_ID": "x", "AUDIT_DB_SECRET_ID": "y", "AUDIT_DB_POOL_SIZE": "3"}, ReservedConcurrentExecutions=4
        ),
        "G": function({"DB_SECRET_ID": "x"}, ReservedConcurrentExecutions=1),
    }
    found = planned_of(tmp_path, resources)
    assert lines(sides(found)[0]) == {"F": (4, 8), "G": (1, 2)}
    assert found.notes == (
        "Nested is a stack of its own, and what its template makes is not counted here.",
        "F has a further database, and --prefix AUDIT_DB_ plans that one.",
    )
    further = planned_of(tmp_path, resources, prefix="AUDIT_DB_")
    assert lines(sides(further)[0]) == {"F": (12, 24)}
    assert [one.name for one in further.out] == ["G"]
