"""The demo: two backends without any authentication, a stand-in identity provider, and the lines.

`market_data` and `strategy` import nothing of the gateway and know nothing of it: that services
stay as they are is the product's point. `stage` starts all parts on this machine, `seed` gives
out users, plans and keys through the admin API, `lines` is the one list of curl lines that is
printed, and `check` runs that same list.
"""
