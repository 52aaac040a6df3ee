"""How each kind of engine speaks HTTP: pure functions from values to bytes."""
