"""The client's side of HTTP: connections, their bounds, and what comes before the first request."""

from gateway.listener.listener import Listener

__all__ = ["Listener"]
