"""What operators see of the gateway: metrics, the access log, and the process's own log."""
