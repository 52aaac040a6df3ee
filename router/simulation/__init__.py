"""The router's own decisions against stand-in engines, in virtual time."""
