"""The context object of an invocation, for handlers that are called as functions."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field


@dataclass
class LambdaContext:
    """What Lambda hands to a handler beside the event. ``deadline_s`` may be set at any time."""

    deadline_s: float
    """The wall-clock second (epoch) at which Lambda would end the invocation."""
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_name: str = "function"
    function_version: str = "$LATEST"
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:function"
    memory_limit_in_mb: str = "512"
    """A string, as Lambda's Python runtime has it."""
    log_group_name: str = "/aws/lambda/function"
    log_stream_name: str = "$LATEST"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the deadline by the wall clock, 0 after it."""
        return max(int((self.deadline_s - time.time()) * 1000), 0)
