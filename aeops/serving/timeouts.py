"""The scoring service's protocol: that of `fast_path`, with the limits of `aeops.machine.http_limits` on each connection."""

from aeops.machine.http_limits import HeadTimeoutProtocol
from aeops.serving.fast_path import FastPathProtocol
from aeops.serving.limits import RequestLimits


class TimeoutProtocol(HeadTimeoutProtocol, FastPathProtocol):
    """Drops a connection whose request does not make progress; a slow body is answered by `post.read_limited_body`."""

    @property
    def connection_limits(self) -> RequestLimits:
        return self.service.limits
