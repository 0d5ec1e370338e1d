"""From a clone in an empty account to a URL that answers, by the verbs of `make`, and back."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from devkit.app.sam_cli import processor
from devkit.app.template import Template

from . import releases
from .checks import Seen, differences, seen, unresolved
from .clone import DATABASE, EXAMPLE, SAMCONFIG, bundle_served

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from devkit.app.catalogue import Case

    from .account import Account
    from .clone import Clone
    from .database import Cluster
    from .functions import UploadedFunction
    from .sam import Done

# What the templates have in common with the verbs: an output of the one is the parameter of that name of the other.
PORT, PROTECTION = "DatabasePort", "DeletionProtection"
SECRET = "arn:aws:secretsmanager:"  # noqa: S105 - what an ARN begins with


class Journey:
    """The steps in order. Each finds what the one before has left."""

    def __init__(self, account: Account, clone: Clone, folder: Path) -> None:
        self._account = account
        self._clone = clone
        self._folder = folder
        self._database = Template(clone.root / DATABASE)
        configured = tomllib.loads((clone.root / SAMCONFIG).read_text())
        self._stack = str(configured["default"]["global"]["parameters"]["stack_name"])
        self.log = ""

    def now(self) -> Seen:
        """The application's stack, and the database that the other one has made."""
        cluster = next(iter(self._account.clusters.running.values()), None)
        if cluster is None:
            return Seen(None)
        return seen(self._account, self._stack, cluster.server, cluster.database)

    def steps(self) -> Iterator[tuple[str, Callable[[], Iterator[str]]]]:
        """Four commands, of which the last fails once of a value in the user's file; and the way back."""
        yield "make account, of a clone", self._look
        yield "make certs", self._fetch
        yield "make database", self._make_database
        yield "make deploy, with a wrong secret", self._deploy_in_vain
        yield "make deploy, once it is mended", self._deploy
        yield "make destroy DATABASE=yes", self._destroy

    def _look(self) -> Iterator[str]:
        done = yield from self._make("account", 0)
        last = done.answer.strip().rpartition("\n")[2]
        if last != "Nothing is in the way. Next: make certs, make database, make deploy":
            yield f"it ends with {last!r}"
        if (self._clone.root / self._clone.own).read_text() != (self._clone.root / EXAMPLE).read_text():
            yield f"{self._clone.own} is no copy of {EXAMPLE}"

    def _fetch(self) -> Iterator[str]:
        with bundle_served(self._folder) as url:
            yield from self._make("certs", 0, "--url", url)

    def _make_database(self) -> Iterator[str]:
        yield from self._make("database", 0)
        stack = f"{self._stack}-database"
        found = self._account.cloudformation.get_stack(stack)
        if found.status != "CREATE_COMPLETE":
            yield f"{stack} is {found.status}"
        yield from unresolved(self._database.content["Outputs"], self._outputs())

    def _deploy_in_vain(self) -> Iterator[str]:
        """Of a secret that is not there, named by its parameter."""
        declared = self._clone.project.template.parameters
        secrets = {name: arn for name, arn in self._outputs().items() if arn.startswith(SECRET) and name in declared}
        if not secrets:
            yield f"{DATABASE} puts out no secret that the application's template takes"
            return
        name, arn = next(iter(secrets.items()))
        self._clone.says(application=self._own() | {name: f"{arn}-gone"})
        done = yield from self._make("deploy", 1)
        if f"(in the template: {name})" not in done.printed:
            yield f"no reason names {name}"
        yield from differences(Seen("ROLLBACK_COMPLETE"), self.now())

    def _deploy(self) -> Iterator[str]:
        """By the one command: what the first has left goes away; what is there then answers."""
        self._clone.says(application=self._own())
        done = yield from self._make("deploy", 0)
        if "is deleted first" not in done.printed:
            yield "it says nothing of what the first deploy has left"
        # The network that database.yaml makes has to lead to S3 and to Secrets Manager.
        yield from (line for line in done.printed.splitlines() if line.startswith("Warning: "))
        found, release = self.now(), releases.first(self._clone.project, self._folder / "built")
        yield from differences(
            Seen("CREATE_COMPLETE", release.revision, found.schema, found.outputs, found.code), found
        )
        yield from unresolved(self._clone.project.template.content["Outputs"], found.outputs)
        url = next(iter(self._clone.project.template.content["Outputs"]))
        if (last := done.answer.strip().rpartition("\n")[2].split()[:2]) != [url, found.outputs.get(url)]:
            yield f"it ends with {last}"
        yield from self._answers()

    def _answers(self) -> Iterator[str]:
        """The first event of each function, and what it says."""
        template, asked = self._clone.project.template, set[str]()
        for case in self._clone.project.cases():
            if case.function not in asked and case.function not in template.called_at_deploy():
                asked.add(case.function)
                answer = self._account.functions.invoke(self._function(case), case.payload).payload
                if problem := case.problem(answer):
                    yield f"{case.name}: {problem}"

    def _destroy(self) -> Iterator[str]:
        """The protection is taken off first, as the page says; nothing is left."""
        yield from self._make("destroy", 2, "--database", "--yes")
        self._clone.says(application=self._own(), database={PROTECTION: "false"})
        yield from self._make("database", 0)
        yield from self._make("destroy", 0, "--database", "--yes")
        left = {one.name for one in self._account.cloudformation.stacks.values()}
        yield from (f"{name} is still there" for name in left & {self._stack, f"{self._stack}-database"})
        yield from (f"the cluster {name} runs" for name in self._account.clusters.running)

    def _own(self) -> dict[str, str | int]:
        """What the user's file has to say here and nowhere else: this machine's processor, and a port that was free."""
        cluster: Cluster = next(iter(self._account.clusters.running.values()))
        template = self._clone.project.template
        return {**processor(template), **({PORT: cluster.server.port} if PORT in template.parameters else {})}

    def _outputs(self) -> dict[str, str]:
        found = self._account.cloudformation.get_stack(f"{self._stack}-database").outputs
        return {one["OutputKey"]: str(one["OutputValue"]) for one in found or ()}

    def _function(self, case: Case) -> UploadedFunction:
        function: UploadedFunction = self._account.cloudformation.execution(self._stack).resources[case.function]
        return function

    def _make(self, verb: str, status: int, *options: str) -> Generator[str, None, Done]:
        done = self._clone.make(verb, *options)
        self.log += done.printed
        if done.status != status:
            yield f"make {verb} ended with {done.status}, not {status}"
        return done
