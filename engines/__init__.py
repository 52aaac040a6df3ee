"""Translations: one kind of engine's words into ours and back. No I/O, no clock."""
