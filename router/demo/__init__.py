"""The demonstration: real engines, the router, and a mixed crowd of callers on one machine."""
