"""AWS, asked through boto3: its refusals, and a question that it never heard, are a ProjectError of one sentence."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ProfileNotFound

from devkit.app.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .target import Target

# A person waits. Three tries of these, where nothing answers, are half a minute.
PATIENCE = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})

# Of what AWS says; a proxy in between answers with a page.
MOST_LETTERS = 300

NO_CREDENTIALS = "no credentials: `aws configure sso`, or AWS_PROFILE, or profile in {file}"
NO_REGION = "no region: AWS_REGION=eu-central-1, or region in {file}"


class RefusedError(ProjectError):
    """AWS answered, and said no."""


class Account:
    """One account and region; ``client("lambda")`` asks there."""

    def __init__(self, target: Target) -> None:
        self._target = target
        try:
            self._session = boto3.Session(profile_name=target.profile, region_name=target.region)
        except ProfileNotFound as error:
            raise ProjectError(f"{error}: AWS_PROFILE, or profile in {target.file}, names another one") from error
        except BotoCoreError as error:  # as of a file of configuration that cannot be read
            raise ProjectError(f"{error}") from error

    @property
    def region(self) -> str | None:
        """What boto3 takes for it, from the file, the environment or the profile."""
        return self._session.region_name

    def client(self, service: str) -> Any:
        """Raises ProjectError where no region is set."""
        try:
            return self._session.client(service, config=PATIENCE)  # type: ignore[call-overload]  # any service's name
        except NoRegionError as error:
            raise ProjectError(NO_REGION.format(file=self._target.file)) from error
        except (BotoCoreError, ValueError) as error:  # what is no URL is a ValueError, as in AWS_ENDPOINT_URL
            raise ProjectError(f"{service}: {error}") from error

    def identity(self) -> tuple[str, str]:
        """The account's number, and who asks. Raises ProjectError, also where the file names another account."""
        with asking("sts:GetCallerIdentity", self._target):
            answer = self.client("sts").get_caller_identity()
        number, who = str(answer["Account"]), str(answer["Arn"])
        if self._target.account not in (None, number):
            raise ProjectError(
                f"these credentials are of the account {number}, and {self._target.file} says {self._target.account}:"
                " AWS_PROFILE or profile names others"
            )
        return number, who


@contextmanager
def asking(action: str, target: Target) -> Iterator[None]:
    """What is asked inside, and fails, is a ProjectError that names the ``action``."""
    try:
        yield
    except NoCredentialsError as error:
        raise ProjectError(NO_CREDENTIALS.format(file=target.file)) from error
    except NoRegionError as error:
        raise ProjectError(NO_REGION.format(file=target.file)) from error
    except ClientError as error:
        said = error.response.get("Error", {})
        message = " ".join(str(said.get("Message", error)).split())
        raise RefusedError(f"{action}: {said.get('Code', 'refused')}: {message[:MOST_LETTERS]}") from error
    except BotoCoreError as error:
        raise ProjectError(f"{action}: {error}") from error
