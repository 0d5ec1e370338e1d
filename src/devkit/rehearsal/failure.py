"""What goes wrong in a deploy, in CloudFormation's words."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - as CloudFormation says it
    """A change set that is not carried out: a parameter, a template or the state of the stack rules it out."""


class Failed(Exception):  # noqa: N818 - a resource's status is CREATE_FAILED
    """A resource could not be created, updated or deleted. The reason is its event's."""
