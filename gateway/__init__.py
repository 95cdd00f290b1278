"""Radio gateway: what the daemon knows and decides (the core)."""

__version__ = "0.1.0"
