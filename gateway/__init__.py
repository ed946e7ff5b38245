"""An API gateway: authentication, plans and limits in front of services that have none."""
