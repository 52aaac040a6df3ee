"""The router: waits, relays and remembers; decides nothing that policies can decide."""
